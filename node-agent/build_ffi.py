# SPDX-License-Identifier: Apache-2.0
"""Build the C side of the agent: one function around syscall(2).

API mode, so that the compiler and not a guess lays the structures out. The number of
the call is no constant here: only the running kernel's announcement knows it.
"""

from cffi import FFI

ffibuilder = FFI()

ffibuilder.cdef(
    """
    struct iovec {
        void *iov_base;
        size_t iov_len;
    };

    struct memplace_mpol_args {
        uint16_t mode;
        uint16_t mode_flags;
        int32_t home_node;
        uint64_t maxnode;
        uint64_t nodes;
    };

    long memplace_process_mbind(long nr, int pidfd, const struct iovec *vec, size_t vlen,
                                const struct memplace_mpol_args *args, size_t usize,
                                unsigned int flags);
    """
)

ffibuilder.set_source(
    "memplace_agent._memplace_sys",
    """
    #define _GNU_SOURCE
    #include <stdint.h>
    #include <sys/uio.h>
    #include <unistd.h>

    /* struct mpol_args of include/uapi/linux/mempolicy.h, under a name of our own:
     * the headers of a later libc may bring theirs. */
    struct memplace_mpol_args {
        uint16_t mode;
        uint16_t mode_flags;
        int32_t home_node;
        uint64_t maxnode;
        uint64_t nodes;
    };
    _Static_assert(sizeof(struct memplace_mpol_args) == 24, "MPOL_ARGS_SIZE_VER0");

    static long memplace_process_mbind(long nr, int pidfd, const struct iovec *vec, size_t vlen,
                                       const struct memplace_mpol_args *args, size_t usize,
                                       unsigned int flags)
    {
        return syscall(nr, pidfd, vec, vlen, args, usize, flags);
    }
    """,
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
