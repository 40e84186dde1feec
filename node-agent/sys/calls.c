/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that Python has no word for. */

static long memplace_process_mbind(long nr, int pidfd, const struct iovec *vec, size_t vlen,
				   const struct memplace_mpol_args *args, size_t usize,
				   unsigned int flags)
{
	return syscall(nr, pidfd, vec, vlen, args, usize, flags);
}

/* Never waits: who reads it polls. */
static int memplace_inotify_open(void)
{
	return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

static int memplace_inotify_watch(int fd, const char *path, uint32_t mask)
{
	return inotify_add_watch(fd, path, mask);
}

/* Moves pages of another process; each has a node to go to. */
static long memplace_move_pages(int pid, unsigned long count, const uint64_t *pages,
				const int *nodes, int *status, int flags)
{
	return syscall(SYS_move_pages, (long)pid, count, pages, nodes, status, (long)flags);
}

/* move_pages(2) without target nodes: it moves nothing and tells where pages are. */
static long memplace_page_nodes(int pid, unsigned long count, const uint64_t *pages, int *status)
{
	return syscall(SYS_move_pages, (long)pid, count, pages, NULL, status, 0L);
}
