# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # the variables are those of kernel/build
# From the name of a base to a patched tree. Sourced by kernel/build.

candidate() { apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" {print $2}'; }

# What to do about a package that apt does not know
die_unknown() {
	local main
	# shellcheck disable=SC2016 # apt's own placeholders
	main=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 ~ /^[a-z]+$/ {print; exit}')
	[ -n "$main" ] || die "apt has no package lists. Run: apt-get update"
	die "apt knows no package $1.
  linux-source-6.12 is in Debian 13 (trixie) and in the security suite of Debian 12,
  linux-source-7.3 is in trixie-backports. If that is the one you want:
    echo 'deb ${main% *} ${main##* }-backports main' >/etc/apt/sources.list.d/backports.list
    apt-get update
  Or fetch the package elsewhere and give it with --source (and the configuration with
  --config PATH)."
}

# fetch PACKAGE [VERSION]: prints the path of the .deb, downloading it if need be
fetch() {
	local version=${2:-} size file
	version=${version:-$(candidate "$1")}
	[ -n "$version" ] || die_unknown "$1"
	size=$(apt-cache show "$1=$version" | awk '$1 == "Size:" {print $2; exit}')
	[ -n "$size" ] || die "apt knows no version $version of $1"
	mkdir -p "$work/download"
	file=$(found_deb "$1" "$version" "$size")
	if [ -z "$file" ]; then
		say "downloading $1 $version ($((size >> 20)) MiB)" >&2
		(cd "$work/download" && apt-get -q download "$1=$version" >"$work/apt.log" 2>&1) ||
			die "apt-get download $1=$version failed: $(tail -n 2 "$work/apt.log")"
		file=$(found_deb "$1" "$version" "$size")
	fi
	echo "${file:?apt-get reported success, but there is no package}"
}

# A download that was cut off has another size
found_deb() { find "$work/download" -name "$1_${2//:/%3a}_*.deb" -size "$3"c -print -quit; }

# Sets $source to a .deb or a directory
find_source() {
	local before
	if [ -n "$source" ]; then
		[ -e "$source" ] || die "no such file or directory: $source"
		source=$(realpath "$source")
	elif before=$(cat "$work/unfinished" 2>/dev/null) && [ -e "$before" ]; then
		# Not a newer one: hours of work may be in the objects
		source=$before
		say "going on with $(basename "$source")"
	else
		source=$(fetch "linux-source-$base")
	fi
	echo "$source" >"$work/unfinished"
}

# What the tree is made of: a different answer means a different tree
source_key() {
	{
		if [ -d "$source" ]; then
			echo "$source"
			git -C "$source" rev-parse HEAD 2>/dev/null || stat -c %Y "$source/Makefile"
		else
			sha256sum <"$source"
		fi
		cat "${patches[@]}" "$here/lib/source.bash"
	} | sha256sum
}

# For the lab other architectures and the sources of drivers that no configuration here
# selects are left out (Kconfig files and Makefiles stay): two thirds of the tree. What a
# patch changes stays: mips, tools/testing.
lab_excludes() {
	local arch
	excludes+=(--exclude='*/drivers/gpu/*.[ch]'
		--exclude='*/drivers/net/ethernet/*.[ch]' --exclude='*/drivers/net/wireless/*.[ch]'
		--exclude='*/drivers/media/*.[ch]' --exclude='*/drivers/staging/*.[ch]'
		--exclude='*/drivers/infiniband/*.[ch]' --exclude='*/sound/*.[ch]'
		--exclude='*/tools/perf/*'
		--exclude='*/Documentation/devicetree/*' --exclude='*/Documentation/translations/*')
	for arch in alpha arc arm arm64 csky hexagon loongarch m68k microblaze nios2 openrisc \
		parisc powerpc riscv s390 sh sparc um xtensa; do
		excludes+=(--exclude="*/arch/$arch/*.[chS]" --exclude="*/arch/$arch/*.dts*")
	done
}

unpack() {
	local excludes=(--wildcards --exclude='.git')
	[ -n "$deb" ] || lab_excludes
	rm -rf "$tree" "$obj"
	# Objects of other configurations that were made from this tree
	[ -z "$deb" ] || rm -rf "$work"/obj-deb-*
	mkdir -p "$tree"
	if [ -d "$source" ]; then
		tar -C "$source" -c "${excludes[@]}" . | tar -C "$tree" -x
	else
		dpkg-deb --fsys-tarfile "$source" |
			tar -xO --wildcards "./usr/src/linux-source-$base.tar.xz" |
			tar -C "$tree" -xJ --strip-components=1 "${excludes[@]}"
	fi
}

# Lines were added or removed elsewhere in the file; what surrounds the change is the same
offsets() {
	local n
	n=$(grep -c 'offset' "$1" || true)
	[ "$n" = 0 ] || echo ", $n hunks at other line numbers"
}

prepare_tree() {
	local key file
	key=$(source_key)
	if [ "$(cat "$tree.key" 2>/dev/null)" = "$key" ]; then
		say "the patched tree is there already"
		return
	fi
	say "unpacking $(basename "$source")"
	rm -f "$tree.key"
	unpack
	for file in "${patches[@]}"; do
		patch -d "$tree" -p1 --fuzz=0 --no-backup-if-mismatch -i "$file" >"$work/patch.log" ||
			die "does not apply to $(basename "$source"): $(cat "$work/patch.log")"
		say "applied $(basename "$file")$(offsets "$work/patch.log")"
	done
	echo "$key" >"$tree.key"
}
