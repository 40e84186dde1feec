# SPDX-License-Identifier: Apache-2.0
"""Build the C side of the agent: system calls, and mappings of a process as arrays.

API mode, so that the compiler and not a guess lays the structures out. No function of sys/
holds Python's lock: a read that the target keeps waiting keeps no other thread waiting. The
number of process_mbind() is no constant here: only the kernel's announcement knows it.
"""

from pathlib import Path

from cffi import FFI

SYS = Path(__file__).resolve().parent / "sys"
SOURCES = ("calls.c", "view.c", "maps.c", "query.c")  # in this order, one after the other

CONSTANTS = {
    # How a read ended; what is below 0 is an errno.
    "MEMPLACE_COMPLETE": 0,
    "MEMPLACE_LATE": 1,
    "MEMPLACE_TOO_MANY": 2,
    "MEMPLACE_BAD_TEXT": 3,
    "MEMPLACE_CUT": 4,
    # linux include/uapi/linux/fs.h: PROCMAP_QUERY_VMA_SHARED
    "MEMPLACE_SHARED": 8,
    # Bytes of struct procmap_query, without and with policy and flags.
    "MEMPLACE_QUERY_PLAIN": 104,
    "MEMPLACE_QUERY_POLICY": 136,
}

STRUCTURES = """
    struct memplace_mpol_args {
        uint16_t mode;
        uint16_t mode_flags;
        int32_t home_node;
        uint64_t maxnode;
        uint64_t nodes;
        uint32_t future; /* from here on only with MPOL_MF_FUTURE */
        uint32_t reserved;
        uint64_t future_min;
    };

    /* All that mappings can have in common; the texts are offsets in the view's. */
    struct memplace_class {
        uint64_t inode;
        uint64_t page_size; /* 0: not known */
        uint32_t permissions; /* 1 r, 2 w, 4 x, 8 shared */
        uint32_t dev_major, dev_minor;
        uint32_t source; /* PROCMAP_MPOL_*, if there is a policy */
        uint32_t unnamed; /* its path is too long to tell */
        uint32_t name, name_size;
        uint32_t policy, policy_size;
        uint32_t flags, flags_size;
    };

    /* The mappings in ascending order, which do not overlap. */
    struct memplace_view {
        size_t count, room, limit;
        uint64_t *starts, *ends, *offsets; /* of the file, 0 without one */
        uint32_t *class_of;
        size_t class_count, class_room;
        struct memplace_class *classes;
        size_t text_used, text_room;
        char *text;
        uint32_t *recent;
    };
"""

FUNCTIONS = """
    long memplace_process_mbind(long nr, int pidfd, const struct iovec *vec, size_t vlen,
                                const struct memplace_mpol_args *args, size_t usize,
                                unsigned int flags);
    long memplace_page_nodes(int pid, unsigned long count, const uint64_t *pages, int *status);
    long memplace_move_pages(int pid, unsigned long count, const uint64_t *pages,
                             const int *nodes, int *status, int flags);
    int memplace_inotify_open(void);
    int memplace_inotify_watch(int fd, const char *path, uint32_t mask);
    struct memplace_view *memplace_view_new(size_t limit);
    void memplace_view_free(struct memplace_view *view);
    int memplace_parse_maps(struct memplace_view *view, const char *text, size_t size);
    int memplace_read_maps(int fd, struct memplace_view *view, uint64_t deadline_ns);
    int memplace_query_maps(int fd, struct memplace_view *view, bool policy,
                            uint64_t deadline_ns);
"""

HEADERS = """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <stdbool.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/inotify.h>
    #include <sys/ioctl.h>
    #include <sys/syscall.h>
    #include <sys/uio.h>
    #include <time.h>
    #include <unistd.h>
"""

# struct mpol_args of include/uapi/linux/mempolicy.h has a name of our own: the headers of a
# later libc may bring theirs.
CHECKS = (
    "_Static_assert(offsetof(struct memplace_mpol_args, future) == 24, "
    '"MPOL_ARGS_SIZE_VER0");\n'
    '_Static_assert(sizeof(struct memplace_mpol_args) == 40, "MPOL_ARGS_SIZE_VER1");\n'
)

ffibuilder = FFI()
ffibuilder.cdef(
    "struct iovec { void *iov_base; size_t iov_len; };"
    + "".join(f"\n#define {name} {value}" for name, value in CONSTANTS.items())
    + STRUCTURES
    + FUNCTIONS
)
ffibuilder.set_source(
    "memplace_agent._memplace_sys",
    HEADERS
    + "".join(f"#define {name} {value}\n" for name, value in CONSTANTS.items())
    + STRUCTURES
    + CHECKS
    + "".join((SYS / name).read_text() for name in SOURCES),
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
