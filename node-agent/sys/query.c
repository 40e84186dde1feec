/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctl PROCMAP_QUERY of /proc/PID/maps, which finds a mapping without any text. */

/* struct procmap_query of include/uapi/linux/fs.h, under a name of our own */
struct query {
	uint64_t size, query_flags, query_addr;
	uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
	uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
	uint64_t vma_name_addr, build_id_addr;
	/* of memplace's series */
	uint32_t mpol_size, mpol_source;
	uint64_t mpol_addr;
	uint32_t vma_vmflags_size, reserved;
	uint64_t vma_vmflags_addr;
};
_Static_assert(offsetof(struct query, mpol_size) == MEMPLACE_QUERY_PLAIN, "of Linux 6.11");
_Static_assert(sizeof(struct query) == MEMPLACE_QUERY_POLICY, "of memplace's series");

#define PROCMAP_QUERY _IOC(_IOC_READ | _IOC_WRITE, 'f', 17, MEMPLACE_QUERY_PLAIN)
#define COVERING_OR_NEXT_VMA 0x10
#define VMA_BITS 0x0f /* readable, writable, executable, shared */

#define SHORT_TEXT 256 /* the kernel allocates as much for each text, so most get little */
#define LONG_TEXT 4096 /* what it gives at most */

struct texts {
	char name[LONG_TEXT], policy[LONG_TEXT], flags[SHORT_TEXT];
};

static int ask(int fd, struct query *query, uint64_t address, bool policy, struct texts *texts,
	       uint32_t name_size, uint32_t policy_size)
{
	memset(query, 0, sizeof(*query));
	query->size = policy ? MEMPLACE_QUERY_POLICY : MEMPLACE_QUERY_PLAIN;
	query->query_flags = COVERING_OR_NEXT_VMA;
	query->query_addr = address;
	query->vma_name_size = name_size;
	query->vma_name_addr = name_size ? (uintptr_t)texts->name : 0;
	if (policy) {
		query->mpol_size = policy_size;
		query->mpol_addr = (uintptr_t)texts->policy;
		query->vma_vmflags_size = sizeof(texts->flags);
		query->vma_vmflags_addr = (uintptr_t)texts->flags;
	}
	return ioctl(fd, PROCMAP_QUERY, query) ? errno : 0;
}

/* A path of more than 4,095 bytes has no name here; *unnamed says so. */
static int ask_for_all(int fd, struct query *query, uint64_t address, bool policy,
		       struct texts *texts, uint32_t *unnamed)
{
	int error = ask(fd, query, address, policy, texts, SHORT_TEXT, SHORT_TEXT);

	if (error == ENAMETOOLONG)
		error = ask(fd, query, address, policy, texts, LONG_TEXT, LONG_TEXT);
	*unnamed = error == ENAMETOOLONG;
	if (*unnamed)
		error = ask(fd, query, address, policy, texts, 0, LONG_TEXT);
	return error;
}

static int add_answer(struct memplace_view *view, const struct query *query,
		      const struct texts *texts, uint32_t unnamed)
{
	struct strings text = { texts->name, texts->policy, texts->flags };
	struct memplace_class class = {
		.permissions = query->vma_flags & VMA_BITS,
		.inode = query->inode,
		.dev_major = query->dev_major,
		.dev_minor = query->dev_minor,
		.page_size = query->vma_page_size,
		.source = query->mpol_source,
		.unnamed = unnamed,
		/* without the terminating zero */
		.name_size = query->vma_name_size ? query->vma_name_size - 1 : 0,
		.policy_size = query->mpol_size ? query->mpol_size - 1 : 0,
		.flags_size = query->vma_vmflags_size ? query->vma_vmflags_size - 1 : 0,
	};

	return add(view, query->vma_start, query->vma_end, query->vma_offset, &class, &text);
}

static int memplace_query_maps(int fd, struct memplace_view *view, bool policy, uint64_t deadline_ns)
{
	struct query query;
	struct texts texts;
	uint64_t address = 0;
	uint32_t unnamed;
	int error;

	for (size_t i = 0;; i++) {
		if (i % 64 == 0 && late(deadline_ns))
			return MEMPLACE_LATE;
		error = ask_for_all(fd, &query, address, policy, &texts, &unnamed);
		if (error == ENOENT)
			return MEMPLACE_COMPLETE;
		if (error == EINTR)
			continue;
		/* The address space went away: with an exit or an execve() */
		if (error == ESRCH && view->count)
			return MEMPLACE_CUT;
		if (error)
			return -error;
		error = add_answer(view, &query, &texts, unnamed);
		if (error)
			return error;
		address = query.vma_end;
	}
}
