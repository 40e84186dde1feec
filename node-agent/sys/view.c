/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mappings of a process as arrays. Each way to read them adds one after the other here;
 * in Python that would take 50 times as long.
 */

#define RECENT_CLASSES 4096 /* a power of two */
#define LONGEST_LINE 65536 /* a path of 4,095 bytes, each escaped as four, is a quarter */

/* Texts of one mapping while it is read, not yet in the view. */
struct strings {
	const char *name, *policy, *flags;
};

static struct memplace_view *memplace_view_new(size_t limit)
{
	struct memplace_view *view = calloc(1, sizeof(*view));

	if (!view)
		return NULL;
	view->limit = limit;
	view->recent = calloc(RECENT_CLASSES, sizeof(*view->recent));
	if (view->recent)
		return view;
	free(view);
	return NULL;
}

static void memplace_view_free(struct memplace_view *view)
{
	if (!view)
		return;
	free(view->starts);
	free(view->ends);
	free(view->offsets);
	free(view->class_of);
	free(view->classes);
	free(view->text);
	free(view->recent);
	free(view);
}

static bool grow(void **array, size_t count, size_t size)
{
	void *larger = realloc(*array, count * size);

	if (larger)
		*array = larger;
	return larger;
}

static bool room_for_vma(struct memplace_view *view)
{
	size_t more = view->room ? 2 * view->room : 256;

	if (view->count < view->room)
		return true;
	if (!grow((void **)&view->starts, more, sizeof(*view->starts)) ||
	    !grow((void **)&view->ends, more, sizeof(*view->ends)) ||
	    !grow((void **)&view->offsets, more, sizeof(*view->offsets)) ||
	    !grow((void **)&view->class_of, more, sizeof(*view->class_of)))
		return false;
	view->room = more;
	return true;
}

static bool room_for_class(struct memplace_view *view, size_t text)
{
	size_t more = view->class_room ? 2 * view->class_room : 64;
	size_t wide = view->text_room ? view->text_room : 8192;

	if (view->class_count == view->class_room) {
		if (!grow((void **)&view->classes, more, sizeof(*view->classes)))
			return false;
		view->class_room = more;
	}
	while (view->text_used + text > wide)
		wide *= 2;
	if (wide == view->text_room)
		return true;
	if (wide > UINT32_MAX || !grow((void **)&view->text, wide, 1))
		return false;
	view->text_room = wide;
	return true;
}

static uint64_t mixed(uint64_t hash, const void *data, size_t size)
{
	const unsigned char *byte = data;

	while (size--)
		hash = (hash ^ *byte++) * 0x100000001b3; /* FNV-1a */
	return hash;
}

static uint64_t hash_of(const struct memplace_class *class, const struct strings *text)
{
	uint64_t hash = 0xcbf29ce484222325;

	hash = mixed(hash, &class->permissions, sizeof(class->permissions));
	hash = mixed(hash, &class->inode, sizeof(class->inode));
	hash = mixed(hash, text->name, class->name_size);
	hash = mixed(hash, text->policy, class->policy_size);
	return mixed(hash, text->flags, class->flags_size);
}

static bool same(const struct memplace_view *view, const struct memplace_class *old,
		 const struct memplace_class *new, const struct strings *text)
{
	return old->permissions == new->permissions && old->inode == new->inode &&
	       old->dev_major == new->dev_major && old->dev_minor == new->dev_minor &&
	       old->page_size == new->page_size && old->source == new->source &&
	       old->unnamed == new->unnamed && old->name_size == new->name_size &&
	       old->policy_size == new->policy_size && old->flags_size == new->flags_size &&
	       !memcmp(view->text + old->name, text->name, new->name_size) &&
	       !memcmp(view->text + old->policy, text->policy, new->policy_size) &&
	       !memcmp(view->text + old->flags, text->flags, new->flags_size);
}

static uint32_t keep(struct memplace_view *view, const char *text, size_t size)
{
	uint32_t at = view->text_used;

	memcpy(view->text + at, text, size);
	view->text_used += size;
	return at;
}

/*
 * Mappings that differ in nothing but their addresses share a class. What shares a slot
 * with another takes its place, and is a class twice then: names are chosen by tenants, and
 * no choice of theirs makes this slow.
 */
static bool classify(struct memplace_view *view, struct memplace_class *class,
		     const struct strings *text, uint32_t *id)
{
	uint32_t *slot;

	/* Heaps and libraries repeat a few: mostly it is that of the last but one. */
	for (size_t back = 1; back <= 2 && back <= view->count; back++) {
		*id = view->class_of[view->count - back];
		if (same(view, &view->classes[*id], class, text))
			return true;
	}
	slot = &view->recent[hash_of(class, text) % RECENT_CLASSES];
	if (*slot && same(view, &view->classes[*slot - 1], class, text)) {
		*id = *slot - 1;
		return true;
	}
	if (!room_for_class(view, class->name_size + class->policy_size + class->flags_size))
		return false;
	class->name = keep(view, text->name, class->name_size);
	class->policy = keep(view, text->policy, class->policy_size);
	class->flags = keep(view, text->flags, class->flags_size);
	view->classes[view->class_count++] = *class;
	*id = view->class_count - 1;
	*slot = view->class_count;
	return true;
}

/* Adds a mapping. One that grew downwards or was joined since the last was read starts there. */
static int add(struct memplace_view *view, uint64_t start, uint64_t end, uint64_t offset,
	       struct memplace_class *class, const struct strings *text)
{
	uint64_t last = view->count ? view->ends[view->count - 1] : 0;
	uint32_t id;

	if (start < last && last < end && class->inode)
		offset += last - start;
	if (start < last)
		start = last;
	if (start >= end)
		return MEMPLACE_COMPLETE;
	if (view->count >= view->limit)
		return MEMPLACE_TOO_MANY;
	if (!room_for_vma(view) || !classify(view, class, text, &id))
		return -ENOMEM;
	view->starts[view->count] = start;
	view->ends[view->count] = end;
	view->offsets[view->count] = offset;
	view->class_of[view->count] = id;
	view->count++;
	return MEMPLACE_COMPLETE;
}

static bool late(uint64_t deadline_ns)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec >= deadline_ns;
}
