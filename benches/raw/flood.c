/*
 * Floods a group of Corosync with messages and counts its own deliveries. For comparison with
 * benches/src/bin/flood.rs, the same loop with the Rust binding.
 *
 *     flood COUNT BYTES WINDOW [thread]
 *
 * At most WINDOW messages are in flight. Each delivered message is copied into memory of its
 * own, as a program that keeps it must do. Prints messages per second.
 *
 * With "thread", a separate thread dispatches and passes the copies on, like the binding and
 * like any program whose own work must not block the daemon. Without it, one thread sends and
 * dispatches in turn, which is the minimum.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include <corosync/cpg.h>

struct copy {
	struct copy *next;
	size_t length;
	char bytes[];
};

static uint64_t heard;
static uint64_t bytes_heard;
static int joined;

/* Messages from the dispatching thread. */
static int threaded;
static struct copy *first, **last = &first;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t is_there = PTHREAD_COND_INITIALIZER;

static void die(const char *what, int code)
{
	fprintf(stderr, "flood: %s: %d\n", what, code);
	exit(1);
}

/* Keeps a message and frees the one before, as a program would do. */
static void take(struct copy *copy)
{
	static struct copy *kept;

	free(kept);
	kept = copy;
	heard++;
	bytes_heard += copy->length;
}

static void on_deliver(cpg_handle_t handle, const struct cpg_name *group, uint32_t nodeid,
		       uint32_t pid, void *message, size_t length)
{
	struct copy *copy = malloc(sizeof(*copy) + length);

	(void)handle, (void)group, (void)nodeid, (void)pid;
	if (copy == NULL)
		die("malloc", errno);
	copy->next = NULL;
	copy->length = length;
	memcpy(copy->bytes, message, length);
	if (!threaded) {
		take(copy);
		return;
	}
	pthread_mutex_lock(&lock);
	if (first == NULL)
		pthread_cond_signal(&is_there);
	*last = copy;
	last = &copy->next;
	pthread_mutex_unlock(&lock);
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

static void hear(cpg_handle_t handle, int fd)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	int code;

	if (poll(&wait, 1, 1000) < 0 && errno != EINTR)
		die("poll", errno);
	code = cpg_dispatch(handle, CS_DISPATCH_ALL);
	if (code != CS_OK)
		die("cpg_dispatch", code);
}

static void *hear_always(void *handle)
{
	int fd;

	if (cpg_fd_get(*(cpg_handle_t *)handle, &fd) != CS_OK)
		die("cpg_fd_get", 0);
	for (;;)
		hear(*(cpg_handle_t *)handle, fd);
	return NULL;
}

/* Waits for messages from the dispatching thread, and takes all of them. */
static void take_all(void)
{
	struct copy *copy, *next;

	pthread_mutex_lock(&lock);
	while (first == NULL)
		pthread_cond_wait(&is_there, &lock);
	copy = first;
	first = NULL;
	last = &first;
	pthread_mutex_unlock(&lock);
	for (; copy != NULL; copy = next) {
		next = copy->next;
		take(copy);
	}
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	cpg_model_v1_data_t model = {
		.model = CPG_MODEL_V1,
		.cpg_deliver_fn = on_deliver,
		.cpg_confchg_fn = on_confchg,
	};
	struct cpg_name group = { .length = 5, .value = "flood" };
	cpg_handle_t handle;
	uint64_t count, window, sent = 0;
	struct iovec message;
	pthread_t thread;
	double begin;
	int code, fd;

	threaded = argc == 5 && strcmp(argv[4], "thread") == 0;
	if (argc != 4 && !threaded) {
		fprintf(stderr, "usage: flood COUNT BYTES WINDOW [thread]\n");
		return 2;
	}
	count = strtoull(argv[1], NULL, 10);
	message.iov_len = strtoull(argv[2], NULL, 10);
	window = strtoull(argv[3], NULL, 10);
	message.iov_base = calloc(1, message.iov_len + 1);
	if (message.iov_base == NULL)
		die("calloc", errno);

	code = cpg_model_initialize(&handle, CPG_MODEL_V1, (cpg_model_data_t *)&model, NULL);
	if (code != CS_OK)
		die("cpg_model_initialize", code);
	if ((code = cpg_fd_get(handle, &fd)) != CS_OK)
		die("cpg_fd_get", code);
	if ((code = cpg_join(handle, &group)) != CS_OK)
		die("cpg_join", code);
	while (!joined)
		hear(handle, fd);
	if (threaded && pthread_create(&thread, NULL, hear_always, &handle) != 0)
		die("pthread_create", errno);

	begin = now();
	while (heard < count) {
		while (sent < count && sent - heard < window) {
			code = cpg_mcast_joined(handle, CPG_TYPE_AGREED, &message, 1);
			if (code == CS_ERR_TRY_AGAIN)
				break;
			if (code != CS_OK)
				die("cpg_mcast_joined", code);
			sent++;
		}
		if (threaded)
			take_all();
		else
			hear(handle, fd);
	}
	printf("%.0f\n", count / (now() - begin));
	if (bytes_heard != count * message.iov_len)
		die("bytes heard", (int)bytes_heard);
	/* The thread may still be in the library, so the handle is not finalized. */
	return 0;
}
