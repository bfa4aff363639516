// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * libFuzzer on the parser of bpf/packet.h, compiled for user space: no read
 * beyond the frame (AddressSanitizer: the frame lies at the end of its own
 * allocation), and what it says is consistent with itself.
 *
 * The verifier proves the first for the program as it is loaded; this finds
 * what it can not see: two readings of one frame that disagree, a port taken
 * from the wrong place.
 *
 * With -DCORPUS it is a program of its own that reads the files it is given,
 * without libFuzzer.
 */
#include "../../bpf/packet.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                      \
  do {                                                                         \
    if (!(condition))                                                          \
      abort();                                                                 \
  } while (0)

static void check_local(int local) {
  int protocol = local >> 16;

  if (local == LOCAL_NONE || local == LOCAL_HIDDEN)
    return;
  EXPECT(protocol == IPPROTO_TCP || protocol == IPPROTO_UDP ||
         protocol == IPPROTO_DCCP || protocol == IPPROTO_SCTP ||
         protocol == IPPROTO_UDPLITE);
}

static void check_ip(const uint8_t *frame, size_t size, struct cursor cursor,
                     bool is_v6) {
  uint8_t *at = cursor.at;
  size_t offset = at - frame;
  struct cursor local = cursor;
  int port;

  /* 14 of Ethernet, two tags, PPPoE and PPP: what packet->ip & 0xff in the
   * program relies on. */
  EXPECT(offset >= 14 && offset <= 14 + 8 + 8);
  EXPECT(offset + (is_v6 ? 40 : 20) <= size);
  if (is_v6)
    (void)malformed_v6(cursor.at, size - offset);
  else
    (void)malformed_v4(cursor.at, size - offset);
  port = is_v6 ? local_port_v6(&local) : local_port_v4(&local);
  check_local(port);
  /* A port that was read lies within the frame: its two bytes stand right
   * before the cursor. */
  if (port != LOCAL_NONE && port != LOCAL_HIDDEN) {
    EXPECT((uint8_t *)local.at <= frame + size);
    EXPECT(((((uint8_t *)local.at)[-2] << 8) | ((uint8_t *)local.at)[-1]) ==
           (port & 0xffff));
  }
  /* Cut right behind the fixed header it is found all the same, and shows no
   * port. */
  cursor.end = at + (is_v6 ? 40 : 20);
  port = is_v6 ? local_port_v6(&cursor) : local_port_v4(&cursor);
  EXPECT(port == LOCAL_NONE || port == LOCAL_HIDDEN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  /* Copied to the end of an allocation of just this size: a byte too far is
   * seen. */
  uint8_t *frame = malloc(size);
  struct cursor cursor = {frame, frame + size};
  enum parsed parsed;
  size_t length;

  if (!frame)
    return 0;
  memcpy(frame, data, size);
  parsed = parse_frame(&cursor);
  EXPECT((uint8_t *)cursor.at <= frame + size);
  if (parsed == PARSED_IPV4 || parsed == PARSED_IPV6)
    check_ip(frame, size, cursor, parsed == PARSED_IPV6);
  /* Longer by what follows, it says the same: nothing behind the headers
   * decides. */
  for (length = size; parsed <= PARSED_TAGS && length > size / 2;
       length -= 1 + size / 16) {
    struct cursor shorter = {frame, frame + length};
    enum parsed again = parse_frame(&shorter);

    EXPECT(again == parsed || again >= PARSED_SHORT_LINK);
    if (again == parsed)
      EXPECT(shorter.at == cursor.at);
  }
  free(frame);
  return 0;
}

#ifdef CORPUS
#include <stdio.h>

int main(int count, char **names) {
  static uint8_t data[4096];
  int i;

  for (i = 1; i < count; i++) {
    FILE *file = fopen(names[i], "rb");
    size_t size;

    if (!file) {
      perror(names[i]);
      return 1;
    }
    size = fread(data, 1, sizeof(data), file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
  }
  printf("%d\n", count - 1);
  return 0;
}
#endif
