// SPDX-License-Identifier: Apache-2.0
/*
 * Preloaded, it makes a program's wall clock wrong by as many nanoseconds as the 64-bit number in
 * the file WALL_CLOCK says at that moment. CLOCK_MONOTONIC and CLOCK_BOOTTIME stay the kernel's,
 * and so does the machine's clock for everybody else.
 *
 * libfaketime does the same and could not be used: each process makes a semaphore in /dev/shm,
 * which one that is killed leaves behind, locked or not, and which one that becomes another user
 * may not open.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

static const volatile int64_t *offset_ns;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void open_offset(void) {
  const char *path = getenv("WALL_CLOCK");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*offset_ns), PROT_READ, MAP_SHARED, fd, 0);

  real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  if (page == MAP_FAILED || !real_gettime) {
    perror("wall-clock: WALL_CLOCK");
    _exit(99);
  }
  close(fd);
  offset_ns = page;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int64_t ns;

  /* Another library's constructor may come before ours. */
  if (!offset_ns)
    open_offset();
  if (real_gettime(clock, now))
    return -1;
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
    return 0;
  ns = now->tv_sec * NS_PER_S + now->tv_nsec + *offset_ns;
  *now = (struct timespec){ns / NS_PER_S, ns % NS_PER_S};
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;

  (void)zone;
  clock_gettime(CLOCK_REALTIME, &exact);
  *now = (struct timeval){exact.tv_sec, exact.tv_nsec / 1000};
  return 0;
}

time_t time(time_t *at) {
  struct timespec exact;

  clock_gettime(CLOCK_REALTIME, &exact);
  if (at)
    *at = exact.tv_sec;
  return exact.tv_sec;
}
