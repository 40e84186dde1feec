/* SPDX-License-Identifier: Apache-2.0 */
/* The text of /proc/PID/maps: Linux fs/proc/task_mmu.c:show_map_vma(). */

static const char *hex(const char *at, const char *end, uint64_t *value)
{
	const char *first = at;
	uint64_t sum = 0;

	for (; at < end; at++) {
		unsigned int digit;

		if (*at >= '0' && *at <= '9')
			digit = *at - '0';
		else if (*at >= 'a' && *at <= 'f')
			digit = *at - 'a' + 10;
		else
			break;
		if (sum >> 60)
			return NULL;
		sum = sum << 4 | digit;
	}
	*value = sum;
	return at == first ? NULL : at;
}

static const char *decimal(const char *at, const char *end, uint64_t *value)
{
	const char *first = at;

	*value = 0;
	for (; at < end && *at >= '0' && *at <= '9'; at++) {
		if (*value > (UINT64_MAX - 9) / 10)
			return NULL;
		*value = *value * 10 + (*at - '0');
	}
	return at == first ? NULL : at;
}

static const char *separator(const char *at, const char *end, char wanted)
{
	return at && at < end && *at == wanted ? at + 1 : NULL;
}

static const char *permissions(const char *at, const char *end, uint32_t *bits)
{
	static const char set[] = "rwx";

	if (!at || end - at < 4)
		return NULL;
	*bits = 0;
	for (int i = 0; i < 3; i++) {
		if (at[i] == set[i])
			*bits |= 1u << i;
		else if (at[i] != '-')
			return NULL;
	}
	if (at[3] == 's')
		*bits |= MEMPLACE_SHARED;
	else if (at[3] != 'p')
		return NULL;
	return at + 4;
}

/* Undoes seq_path(), which writes a newline as \012 and nothing else otherwise. */
static size_t unescaped(char *to, const char *at, const char *end)
{
	char *first = to;

	while (at < end) {
		if (end - at >= 4 && !memcmp(at, "\\012", 4)) {
			*to++ = '\n';
			at += 4;
		} else {
			*to++ = *at++;
		}
	}
	return to - first;
}

static int parse_line(struct memplace_view *view, const char *at, const char *end, char *name)
{
	struct memplace_class class = { 0 };
	struct strings text = { name, "", "" };
	uint64_t start, last, offset, major, minor;

	at = separator(hex(at, end, &start), end, '-');
	at = at ? separator(hex(at, end, &last), end, ' ') : NULL;
	at = separator(permissions(at, end, &class.permissions), end, ' ');
	at = at ? separator(hex(at, end, &offset), end, ' ') : NULL;
	at = at ? separator(hex(at, end, &major), end, ':') : NULL;
	at = at ? separator(hex(at, end, &minor), end, ' ') : NULL;
	at = at ? decimal(at, end, &class.inode) : NULL;
	if (!at || start >= last || (at < end && *at != ' '))
		return MEMPLACE_BAD_TEXT;
	while (at < end && *at == ' ')
		at++;
	class.dev_major = major;
	class.dev_minor = minor;
	class.name_size = unescaped(name, at, end);
	return add(view, start, last, offset, &class, &text);
}

/* Parses whole lines; *done is how many bytes they are. */
static int parse_lines(struct memplace_view *view, const char *text, size_t size, char *name,
		       size_t *done)
{
	const char *at = text, *newline;
	int outcome;

	while ((newline = memchr(at, '\n', text + size - at))) {
		outcome = newline - at < LONGEST_LINE ? parse_line(view, at, newline, name) :
							MEMPLACE_BAD_TEXT;
		if (outcome)
			return outcome;
		at = newline + 1;
	}
	*done = at - text;
	return MEMPLACE_COMPLETE;
}

static int memplace_parse_maps(struct memplace_view *view, const char *text, size_t size)
{
	size_t done = 0;
	char *name = malloc(LONGEST_LINE);
	int outcome = name ? parse_lines(view, text, size, name, &done) : -ENOMEM;

	free(name);
	if (outcome)
		return outcome;
	return done == size ? MEMPLACE_COMPLETE : MEMPLACE_CUT;
}

/*
 * The file ends early, and without an error, when the address space goes away (an exit, an
 * execve()). Then it is empty from the start, too.
 */
static int ended(int fd, char *buffer)
{
	ssize_t got;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return errno == ESPIPE ? MEMPLACE_COMPLETE : -errno;
	got = read(fd, buffer, 1);
	if (got < 0)
		return -errno;
	return got ? MEMPLACE_COMPLETE : MEMPLACE_CUT;
}

static int read_lines(int fd, struct memplace_view *view, uint64_t deadline_ns, char *buffer,
		      char *name)
{
	size_t kept = 0, done;
	ssize_t got;
	int outcome;

	for (;;) {
		if (late(deadline_ns))
			return MEMPLACE_LATE;
		got = read(fd, buffer + kept, LONGEST_LINE - kept);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == ESRCH && view->count ? MEMPLACE_CUT : -errno;
		if (!got)
			return kept ? MEMPLACE_CUT : ended(fd, buffer);
		kept += got;
		outcome = parse_lines(view, buffer, kept, name, &done);
		if (outcome)
			return outcome;
		kept -= done;
		memmove(buffer, buffer + done, kept);
		if (kept == LONGEST_LINE)
			return MEMPLACE_BAD_TEXT;
	}
}

static int memplace_read_maps(int fd, struct memplace_view *view, uint64_t deadline_ns)
{
	char *buffers = malloc(2 * LONGEST_LINE);
	int outcome = buffers ? read_lines(fd, view, deadline_ns, buffers, buffers + LONGEST_LINE) :
				-ENOMEM;

	free(buffers);
	return outcome;
}
