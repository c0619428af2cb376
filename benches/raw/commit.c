/*
 * Two-step commit on libcpg alone: the upper limit for a replicated log on Corosync.
 *
 *     commit ack                      one on each of the other nodes, until it is killed
 *     commit BYTES WINDOW SECONDS     the proposer, on one node
 *
 * The proposer multicasts messages of BYTES bytes, with at most WINDOW uncommitted ones. The
 * others acknowledge them, with one ack for all messages received together. A message is
 * committed when the proposer has received it and an ack of one other node: a majority of
 * three. There is no log, no checksum, no copy and no caller, and one thread does everything.
 * Prints commits per second, and the median and 99th percentile of the time to commit in
 * microseconds.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <corosync/cpg.h>

enum { PROPOSAL = 1, ACK = 2 };
#define WINDOW_MAX 4096
#define SAMPLES_MAX 4000000

struct head {
	uint32_t kind;
	uint32_t proposer;
	uint64_t number;
};

static int proposing, joined;
/* Own messages that the proposer has received back, and those acked by at least one other. */
static uint64_t heard, acked;
/* For an acknowledging node: the last proposal received, and its proposer. */
static struct head last;
static int owes;

static void die(const char *what, int code)
{
	fprintf(stderr, "commit: %s: %d\n", what, code);
	exit(1);
}

static void on_deliver(cpg_handle_t handle, const struct cpg_name *group, uint32_t nodeid,
		       uint32_t pid, void *message, size_t length)
{
	const struct head *head = message;

	(void)handle, (void)group, (void)nodeid;
	if (length < sizeof(*head))
		return;
	if (proposing) {
		if (head->proposer != (uint32_t)getpid())
			return;
		if (head->kind == PROPOSAL && pid == (uint32_t)getpid())
			heard = head->number;
		else if (head->kind == ACK && head->number > acked)
			acked = head->number;
	} else if (head->kind == PROPOSAL) {
		last = *head;
		owes = 1;
	}
}

static void on_confchg(cpg_handle_t handle, const struct cpg_name *group,
		       const struct cpg_address *members, size_t member_count,
		       const struct cpg_address *left, size_t left_count,
		       const struct cpg_address *came, size_t came_count)
{
	(void)handle, (void)group, (void)members, (void)member_count;
	(void)left, (void)left_count, (void)came, (void)came_count;
	joined = 1;
}

static void hear(cpg_handle_t handle, int fd, int timeout_ms)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	int code;

	if (poll(&wait, 1, timeout_ms) < 0 && errno != EINTR)
		die("poll", errno);
	code = cpg_dispatch(handle, CS_DISPATCH_ALL);
	if (code != CS_OK)
		die("cpg_dispatch", code);
}

/* Returns true if the message was accepted. */
static int send_one(cpg_handle_t handle, struct head *head, char *rest, size_t rest_length)
{
	struct iovec parts[2] = {
		{ .iov_base = head, .iov_len = sizeof(*head) },
		{ .iov_base = rest, .iov_len = rest_length },
	};
	int code = cpg_mcast_joined(handle, CPG_TYPE_AGREED, parts, 2);

	if (code != CS_OK && code != CS_ERR_TRY_AGAIN)
		die("cpg_mcast_joined", code);
	return code == CS_OK;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static int compare(const void *one, const void *other)
{
	float a = *(const float *)one, b = *(const float *)other;

	return (a > b) - (a < b);
}

static void ack(cpg_handle_t handle, int fd)
{
	for (;;) {
		struct head head;

		hear(handle, fd, owes ? 1 : 1000);
		if (!owes)
			continue;
		head = last;
		head.kind = ACK;
		owes = !send_one(handle, &head, NULL, 0);
	}
}

static void propose(cpg_handle_t handle, int fd, size_t bytes, uint64_t window, double seconds)
{
	static double sent_at[WINDOW_MAX];
	float *took = malloc(SAMPLES_MAX * sizeof(*took));
	size_t rest_length = bytes > sizeof(struct head) ? bytes - sizeof(struct head) : 0;
	char *rest = calloc(1, rest_length + 1);
	uint64_t sent = 0, committed = 0, counted = 0, samples = 0;
	double begin = now(), warm = begin + 0.2, at = begin;

	if (took == NULL || rest == NULL || window == 0 || window > WINDOW_MAX)
		die("arguments", 0);
	while (at < warm + seconds) {
		int busy = 0;

		while (sent - committed < window) {
			struct head head = { PROPOSAL, (uint32_t)getpid(), sent + 1 };

			if (!send_one(handle, &head, rest, rest_length)) {
				busy = 1;
				break;
			}
			sent++;
			sent_at[sent % window] = now();
		}
		hear(handle, fd, busy ? 1 : 1000);
		at = now();
		while (committed < heard && committed < acked) {
			committed++;
			if (at < warm)
				continue;
			counted++;
			if (samples < SAMPLES_MAX)
				took[samples++] = (at - sent_at[committed % window]) * 1e6;
		}
	}
	if (samples == 0)
		die("nothing was committed", 0);
	qsort(took, samples, sizeof(*took), compare);
	printf("%.0f %.1f %.1f\n", counted / (at - warm), took[samples / 2],
	       took[samples / 100 * 99]);
}

int main(int argc, char **argv)
{
	cpg_model_v1_data_t model = {
		.model = CPG_MODEL_V1,
		.cpg_deliver_fn = on_deliver,
		.cpg_confchg_fn = on_confchg,
	};
	struct cpg_name group = { .length = 6, .value = "commit" };
	cpg_handle_t handle;
	int code, fd;

	proposing = argc == 4;
	if (!proposing && !(argc == 2 && strcmp(argv[1], "ack") == 0)) {
		fprintf(stderr, "usage: commit ack | commit BYTES WINDOW SECONDS\n");
		return 2;
	}
	code = cpg_model_initialize(&handle, CPG_MODEL_V1, (cpg_model_data_t *)&model, NULL);
	if (code != CS_OK)
		die("cpg_model_initialize", code);
	if ((code = cpg_fd_get(handle, &fd)) != CS_OK)
		die("cpg_fd_get", code);
	if ((code = cpg_join(handle, &group)) != CS_OK)
		die("cpg_join", code);
	while (!joined)
		hear(handle, fd, 1000);
	if (proposing)
		propose(handle, fd, strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10),
			strtod(argv[3], NULL));
	else
		ack(handle, fd);
	return 0;
}
