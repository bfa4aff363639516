// SPDX-License-Identifier: Apache-2.0
/*
 * The demo's packets: plain UDP from one host of the lab to another.
 *
 *   traffic send ADDRESS PORT PACKETS_PER_SECOND SOURCE...
 *   traffic receive PORT
 *
 * The sender uses one source at a time; SIGUSR1 moves it to the next. SIGUSR2 makes either print a
 * line of JSON per source: packets sent, or packets received and when the kernel saw the last one
 * (CLOCK_MONOTONIC ns). SIGTERM ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOURCES 256

static volatile sig_atomic_t next_source, report, stop;

static void on_signal(int signal)
{
	if (signal == SIGUSR1)
		next_source++;
	else if (signal == SIGUSR2)
		report = 1;
	else
		stop = 1;
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int bound_socket(struct in_addr address, int port)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)))
		die("bind");
	return fd;
}

static struct in_addr parse(const char *text)
{
	struct in_addr address;

	if (inet_pton(AF_INET, text, &address) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", text);
		exit(2);
	}
	return address;
}

static int send_packets(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(atoi(argv[3])),
				 .sin_addr = parse(argv[2])};
	int64_t gap = 1000000000LL / atoi(argv[4]), due = clock_ns(CLOCK_MONOTONIC);
	int sockets[SOURCES], sources = argc - 5, i;
	uint64_t sent[SOURCES] = {0};
	char payload[64] = "falcodrop demo";
	struct timespec wake;

	prctl(PR_SET_TIMERSLACK, 1UL);
	if (sources < 1 || sources > SOURCES)
		return 2;
	for (i = 0; i < sources; i++)
		sockets[i] = bound_socket(parse(argv[5 + i]), 0);
	puts("{\"ready\":true}");
	fflush(stdout);
	while (!stop) {
		if (report) {
			report = 0;
			for (i = 0; i < sources; i++)
				printf("{\"source\":\"%s\",\"packets\":%llu}\n", argv[5 + i],
				       (unsigned long long)sent[i]);
			puts("{\"end\":true}");
			fflush(stdout);
		}
		// Asleep in between: on a small machine a busy loop would take the daemon's processor.
		wake = (struct timespec){.tv_sec = due / 1000000000LL, .tv_nsec = due % 1000000000LL};
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL))
			continue;
		due += gap;
		i = next_source % sources;
		if (sendto(sockets[i], payload, sizeof(payload), MSG_DONTWAIT, (struct sockaddr *)&to,
			   sizeof(to)) >= 0)
			sent[i]++;
	}
	return 0;
}

static int receive_packets(char **argv)
{
	struct in_addr any = {0};
	int fd = bound_socket(any, atoi(argv[2])), on = 1, room = 32 << 20, count = 0, i;
	struct {
		struct in_addr address;
		uint64_t packets;
		int64_t last;
	} seen[SOURCES];
	char payload[2048], control[256], text[INET_ADDRSTRLEN];
	int64_t offset = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
	struct timeval patience = {.tv_usec = 5000};

	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	puts("{\"ready\":true}");
	fflush(stdout);
	while (!stop) {
		struct sockaddr_in from;
		struct iovec part = {payload, sizeof(payload)};
		struct msghdr message = {.msg_name = &from,
					 .msg_namelen = sizeof(from),
					 .msg_iov = &part,
					 .msg_iovlen = 1,
					 .msg_control = control,
					 .msg_controllen = sizeof(control)};
		struct cmsghdr *stamp;
		struct timespec when;

		if (recvmsg(fd, &message, report ? MSG_DONTWAIT : 0) < 0) {
			// Everything that had arrived is counted: now a report is whole.
			if (report && errno != EINTR) {
				report = 0;
				for (i = 0; i < count; i++)
					printf("{\"source\":\"%s\",\"packets\":%llu,\"last\":%lld}\n",
					       inet_ntop(AF_INET, &seen[i].address, text, sizeof(text)),
					       (unsigned long long)seen[i].packets,
					       (long long)seen[i].last);
				puts("{\"end\":true}");
				fflush(stdout);
			}
			continue;
		}
		for (i = 0; i < count && seen[i].address.s_addr != from.sin_addr.s_addr; i++)
			;
		if (i == SOURCES)
			continue;
		if (i == count) {
			memset(&seen[i], 0, sizeof(seen[i]));
			seen[i].address = from.sin_addr;
			count++;
		}
		seen[i].packets++;
		for (stamp = CMSG_FIRSTHDR(&message); stamp; stamp = CMSG_NXTHDR(&message, stamp)) {
			if (stamp->cmsg_level != SOL_SOCKET || stamp->cmsg_type != SO_TIMESTAMPNS)
				continue;
			memcpy(&when, CMSG_DATA(stamp), sizeof(when));
			seen[i].last = when.tv_sec * 1000000000LL + when.tv_nsec - offset;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (argc >= 6 && !strcmp(argv[1], "send"))
		return send_packets(argc, argv);
	if (argc == 3 && !strcmp(argv[1], "receive"))
		return receive_packets(argv);
	fprintf(stderr, "usage: traffic send ADDRESS PORT PACKETS_PER_SECOND SOURCE... | traffic receive PORT\n");
	return 2;
}
