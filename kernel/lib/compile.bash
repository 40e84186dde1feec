# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # the variables are those of kernel/build
# From a patched tree to an image or packages. Sourced by kernel/build.

kmake() {
	local cc=gcc
	command -v ccache >/dev/null && cc='ccache gcc'
	# The version of the objects must not depend on who builds where and when
	CCACHE_BASEDIR=$work CCACHE_NOHASHDIR=1 KBUILD_BUILD_USER=memplace \
		KBUILD_BUILD_HOST=memplace KBUILD_BUILD_VERSION=${revision:-1} \
		KBUILD_BUILD_TIMESTAMP=$(date -u -d "@$(stat -c %Y "$tree/Kbuild")") \
		PATH=$PATH:/usr/sbin nice make -C "$tree" O="$obj" LOCALVERSION= CC="$cc" "$@"
}

# merged FILE...: their lines, of several for one symbol the last, and where that one stood:
# of a choice Kconfig takes the last, too
merged() {
	awk '/^(# )?CONFIG_/ {name = $1 == "#" ? $2 : $1; sub(/=.*/, "", name)
		line[NR] = $0; last[name] = NR; symbol[NR] = name}
	     END {for (i = 1; i <= NR; i++) if (i in line && last[symbol[i]] == i) print line[i]}' "$@"
}

# Lines of the first file that do not hold in the second
lost_lines() {
	awk 'NR == FNR {has[$0] = 1; sub(/=.*/, ""); set[$0] = 1; next}
	     /^CONFIG_/ && !($0 in has)
	     /^# CONFIG_.* is not set$/ && ($2 in set)' "$2" "$1" | sed 's/^/    /'
}

# Debian's configuration, or the file that was given; nothing for the lab
base_config() {
	local package=linux-config-$base version=''
	case $config in
	distro)
		[ -d "$source" ] || version=$(dpkg-deb -f "$source" Version)
		package=$(fetch "$package" "$version") || exit 1
		dpkg-deb --fsys-tarfile "$package" |
			tar -xO --wildcards './usr/src/linux-config-*/config.amd64_none_amd64.xz' |
			xz -dc
		;;
	*/*) cat "$config" ;;
	esac
}

configure() {
	local lost
	mkdir -p "$obj"
	base_config >"$work/base.config" || die "no base configuration"
	merged "${fragments[@]}" >"$work/fragment.config"
	merged "$work/base.config" "$work/fragment.config" >"$obj/.config.new"
	kmake olddefconfig KCONFIG_CONFIG=.config.new >"$log" 2>&1 ||
		die "olddefconfig failed: $(tail -n 5 "$log")"
	# An unchanged file keeps its date, and make its objects
	cmp -s "$obj/.config.new" "$obj/.config" || cp "$obj/.config.new" "$obj/.config"
	lost=$(lost_lines "$work/fragment.config" "$obj/.config")
	[ -z "$lost" ] || die "lines that Kconfig did not accept, of ${fragments[*]}:
$lost"
	lost_lines "$work/base.config" "$obj/.config" >"$work/base.lost"
	[ ! -s "$work/base.config" ] ||
		say "$(wc -l <"$work/base.lost") lines of the base came out differently: $work/base.lost"
}

# What make would compile now, by asking it: that takes a minute or two, which the lab is
# spared. A failure only costs the estimate.
files_to_compile() {
	kmake -j"$jobs" -n "$@" 2>/dev/null | grep -cE "echo '?  (CC|AS)( \[M\])? " || true
}

compiled() { grep -cE '^  (CC|AS)( \[M\])? ' "$log" || true; }

# "412 of about 1,900 files", and when it has something to go by, how much longer
progress() {
	local n=$1 total=$2 seconds=$3
	printf "compiling: %'d" "$n"
	if [ "$total" -gt "$n" ]; then
		printf " of about %'d files" "$total"
		[ "$n" -lt 50 ] || printf ', about %s to go' "$(clock $((seconds * (total - n) / n)))"
	else
		printf ' files'
	fi
}

# run_logged COMMAND...: in a process group of its own, so that an interrupted run leaves
# nothing behind; says every 20 s (once it takes longer, every minute) what $status prints
run_logged() {
	local pid begin=$SECONDS next=$((SECONDS + 20))
	set -m
	"$@" >"$log" 2>&1 &
	set +m
	pid=$!
	# shellcheck disable=SC2064 # this pid
	trap "kill -- -$pid 2>/dev/null || true" EXIT
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		[ $SECONDS -ge $next ] || continue
		say "$($status $((SECONDS - begin)))"
		next=$((SECONDS + (SECONDS - begin < 900 ? 20 : 60)))
	done
	wait "$pid" 2>/dev/null || die "make failed, see $log:
$(grep -E -m 5 'error|Error' "$log" || tail -n 20 "$log")"
	trap - EXIT
}

compile_status() { progress "$(compiled)" "$total" "$1"; }
package_status() { echo "packaging: $(tail -n 1 "$log" | cut -c1-100)"; }

compile() {
	local targets=(bzImage) total=1700 status=compile_status
	if [ -n "$deb" ]; then
		targets+=(modules)
		set_version
		kmake -j"$jobs" prepare modules_prepare >"$log" 2>&1 || true
		total=$(files_to_compile "${targets[@]}")
	fi
	say "compiling about $total files with $jobs jobs, log: $log"
	run_logged kmake -j"$jobs" "${targets[@]}"
	say "compiled $(compiled) files"
}

# Packages are versioned by kernel and series. The part behind the hyphen becomes part of
# "uname -v" when they are made; set it before, or everything is linked twice.
set_version() {
	[ -n "$deb" ] || return 0
	local date
	date=$(sed -n 's/^Date: //p' "${patches[@]}" | while read -r line; do
		date -u -d "$line" +%Y%m%d
	done | sort -n | tail -n 1)
	revision=1+memplace$date
	version=$(kmake -s kernelversion)-$revision
}

package() {
	local status=package_status
	rm -f "$work"/linux-*.deb "$work"/linux-upstream_*
	say "packaging as version $version"
	# -d: check_tools has looked for what is needed, build-essential as such is not
	KDEB_PKGVERSION=$version KDEB_CHANGELOG_DIST=stable DPKG_FLAGS=-d \
		run_logged kmake -j"$jobs" bindeb-pkg
	rm -f "$out"/linux-*.deb
	# Not linux-libc-dev: it would take the place of Debian's. No headers without modules.
	find "$work" -maxdepth 1 \( -name 'linux-image-*.deb' -o -name 'linux-headers-*.deb' \) \
		-exec mv {} "$out" \;
	cp "$obj/.config" "$out/config"
	cp "$obj/include/config/kernel.release" "$out/release"
	say "the package takes along what depmod adds, when it is removed"
	remove_with_modules "$out"/linux-image-*.deb "/lib/modules/$(cat "$out/release")"
}

# remove_with_modules PACKAGE DIRECTORY: what depmod writes to the directory belongs to no
# package, and the postrm that "make bindeb-pkg" writes (scripts/package/builddeb) leaves it
remove_with_modules() {
	local unpacked=$work/image
	rm -rf "$unpacked"
	dpkg-deb -R "$1" "$unpacked"
	[ "$(tail -n 1 "$unpacked/DEBIAN/postrm")" = 'exit 0' ] ||
		die "this kernel's postrm ends otherwise: adapt remove_with_modules in $here/lib"
	sed -i '$d' "$unpacked/DEBIAN/postrm"
	cat >>"$unpacked/DEBIAN/postrm" <<EOF_POSTRM
if [ "\$1" = remove ] && [ -d $2 ]; then
	rm -f $2/modules.*
	rmdir --ignore-fail-on-non-empty $2
fi
exit 0
EOF_POSTRM
	dpkg-deb --root-owner-group -b "$unpacked" "$1" >/dev/null
	rm -rf "$unpacked"
}

install_image() {
	cp "$obj/.config" "$out/config"
	cp "$obj/System.map" "$out/System.map"
	cp "$obj/include/config/kernel.release" "$out/release"
	# Last, and in one step: who sees it sees a complete result
	cp "$obj/arch/x86/boot/bzImage" "$out/bzImage.new"
	mv "$out/bzImage.new" "$out/bzImage"
}
