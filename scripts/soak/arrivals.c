// SPDX-License-Identifier: Apache-2.0
/*
 * When did a packet of each of flood.c's sources last get past XDP? Answers every line on stdin with one line of JSON:
 * "last" in ms since 1970 by the kernel's receive time (0: never), and "lost", what the socket had no room for.
 * Slots: 0-59 are 10.99.0.0-59, 60-119 are 2001:db8:99::0-3b, 120 is 10.97.0.0/24, 121 is 10.98.0.1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define SLOTS 122

static int slot_of(const uint8_t *frame)
{
	if (frame[12] == 0x86)
		return memcmp(frame + 22, "\x20\x01\x0d\xb8\x00\x99", 6) || frame[37] >= 60
			       ? -1
			       : 60 + frame[37];
	if (frame[12] != 0x08 || frame[13] || frame[26] != 10)
		return -1;
	if (frame[27] == 99)
		return frame[29] < 60 ? frame[29] : -1;
	return frame[27] == 97 ? 120 : frame[27] == 98 ? 121 : -1;
}

int main(int argc, char **argv)
{
	static uint8_t frames[BATCH][64];
	static char controls[BATCH][64];
	static struct iovec parts[BATCH];
	static struct mmsghdr messages[BATCH];
	static double last[SLOTS];
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int room = 32 << 20, on = 1, fd;
	unsigned long long lost = 0;
	char line[64];

	if (argc != 2)
		return 2;
	at.sll_ifindex = if_nametoindex(argv[1]);
	fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on))) {
		perror("arrivals");
		return 1;
	}
	for (;;) {
		struct pollfd polled[2] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
		int asked, done;

		poll(polled, 2, -1);
		asked = polled[1].revents != 0;
		/* All that came before the question is counted before the answer. */
		do {
			for (int i = 0; i < BATCH; i++) {
				parts[i] = (struct iovec){frames[i], sizeof(frames[i])};
				messages[i].msg_hdr = (struct msghdr){
					.msg_iov = &parts[i],
					.msg_iovlen = 1,
					.msg_control = controls[i],
					.msg_controllen = sizeof(controls[i]),
				};
			}
			done = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
			for (int i = 0; i < done; i++) {
				struct cmsghdr *control = CMSG_FIRSTHDR(&messages[i].msg_hdr);
				int slot = messages[i].msg_len < 38 ? -1 : slot_of(frames[i]);

				if (slot >= 0 && control && control->cmsg_type == SO_TIMESTAMPNS) {
					struct timespec when;

					memcpy(&when, CMSG_DATA(control), sizeof(when));
					last[slot] = when.tv_sec * 1e3 + when.tv_nsec / 1e6;
				}
			}
		} while (asked && done == BATCH);
		if (asked) {
			struct tpacket_stats stats;
			socklen_t size = sizeof(stats);

			if (!fgets(line, sizeof(line), stdin))
				return 0;
			if (!getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size))
				lost += stats.tp_drops;
			printf("{\"lost\":%llu,\"last\":[", lost);
			for (int i = 0; i < SLOTS; i++)
				printf("%s%.3f", i ? "," : "", last[i]);
			printf("]}\n");
			fflush(stdout);
		}
	}
}
