# SPDX-License-Identifier: Apache-2.0
"""What is done in the guest, boot by boot: shell scripts as root, each ends the machine."""

# Debian's kernel, started by the boot loader: nothing there yet, then the package
INSTALL = """
uname -r
grep -o 'BOOT_IMAGE=[^ ]*' /proc/cmdline
test ! -e /sys/kernel/mm/mempolicy/process_mbind
/mnt/process_mbind $$ 0 0 1 2>&1 | grep 'this kernel has no process_mbind()'
echo 'GRUB_TOP_LEVEL="/boot/vmlinuz-RELEASE"' >>/etc/default/grub
apt-get install -y /mnt/linux-image-*.deb
ls /boot
"""

# The new kernel: does it have the call, does the call move memory, then off with it
CHECK = """
uname -rv
grep -o 'BOOT_IMAGE=[^ ]*' /proc/cmdline
grep -E '^(ext4|virtio_blk) ' /proc/modules || echo 'the root is not on modules'
grep . /sys/kernel/mm/mempolicy/process_mbind/*
/mnt/memplace-nfd-feature /run/nfd
sed 's/^/NFD /' /run/nfd/memplace
/mnt/target >/run/target &
while ! [ -s /run/target ]; do sleep 1; done
read -r pid address length </run/target
set -- $(grep "^${address#0x} " /proc/$pid/numa_maps)
echo BEFORE "$@"
/mnt/process_mbind $pid $address $length 1
set -- $(grep "^${address#0x} " /proc/$pid/numa_maps)
echo AFTER "$@"
kill $pid
dmesg --level=warn,err,crit,alert,emerg | sed 's/^/DMESG /'
sed -i '/^GRUB_TOP_LEVEL=/d' /etc/default/grub
apt-get remove -y linux-image-RELEASE
"""

# Debian's kernel again
BACK = """
uname -r
grep -o 'BOOT_IMAGE=[^ ]*' /proc/cmdline
test ! -e /sys/kernel/mm/mempolicy/process_mbind
mkdir /run/nfd
touch /run/nfd/memplace
/mnt/memplace-nfd-feature /run/nfd
test ! -e /run/nfd/memplace
ls /boot
test ! -e /lib/modules/RELEASE
"""
