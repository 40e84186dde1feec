// SPDX-License-Identifier: Apache-2.0
// Holds a pod's namespaces: reaps what is handed to it, leaves on SIGTERM.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number)
{
	(void)number;
	_exit(0);
}

static void reap(int number)
{
	(void)number;
	while (waitpid(-1, 0, WNOHANG) > 0)
		;
}

int main(void)
{
	// A pid 1 gets only the signals it has a handler for.
	struct sigaction end = { .sa_handler = leave };
	struct sigaction child = { .sa_handler = reap, .sa_flags = SA_NOCLDSTOP };

	sigaction(SIGTERM, &end, 0);
	sigaction(SIGINT, &end, 0);
	sigaction(SIGCHLD, &child, 0);
	for (;;)
		pause();
}
