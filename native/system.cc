// SPDX-License-Identifier: Apache-2.0
#include "system.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "check.h"
#include "error.h"
#include "fd.h"

namespace falcodrop {
namespace {

uint64_t ReadClockNs(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

} // namespace

Napi::Value SendUnixDatagram(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string path = RequireString(info[0], "path");
  const Bytes message = RequireBytes(info[1], "message");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const bool isAbstract = path[0] == '@';
  // A path needs room for its NUL; an abstract name begins with one instead of the "@" and has none
  // at its end.
  if (path.size() + (isAbstract ? 0 : 1) > sizeof address.sun_path)
    Fail(env, "sendUnixDatagram", ENAMETOOLONG, About(path));
  memcpy(address.sun_path, path.data(), path.size());
  if (isAbstract)
    address.sun_path[0] = '\0';
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (isAbstract ? 0 : 1));
  const Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.Valid())
    Fail(env, "sendUnixDatagram", errno);
  ssize_t sent;
  do
    sent = sendto(fd.Get(), message.data, message.length, MSG_NOSIGNAL | MSG_DONTWAIT,
                  reinterpret_cast<const sockaddr *>(&address), length);
  while (sent < 0 && errno == EINTR);
  if (sent < 0)
    Fail(env, "sendUnixDatagram", errno, About(path));
  return env.Undefined();
}

Napi::Value MountBpffs(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string target = RequireString(info[0], "target");
  const uint32_t mode = RequireUint32(info[1], "mode", 0, 07777);
  char options[16];
  snprintf(options, sizeof options, "mode=%04o", mode);
  if (mount("bpf", target.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0)
    Fail(env, "mountBpffs", errno, About(target));
  return env.Undefined();
}

Napi::Value Unmount(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string target = RequireString(info[0], "target");
  const bool lazy = !info[1].IsUndefined() && RequireBoolean(info[1], "lazy");
  if (umount2(target.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0)
    Fail(env, "unmount", errno, About(target));
  return env.Undefined();
}

Napi::Value Clocks(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const uint64_t monotonic = ReadClockNs(CLOCK_MONOTONIC);
  const uint64_t boottime = ReadClockNs(CLOCK_BOOTTIME);
  Napi::Object result = Napi::Object::New(env);
  result.Set("monotonicNs", Napi::BigInt::New(env, monotonic));
  result.Set("boottimeNs", Napi::BigInt::New(env, boottime));
  return result;
}

Napi::Value Membarrier(const Napi::CallbackInfo &info) {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0) < 0)
    Fail(info.Env(), "membarrier", errno);
  return info.Env().Undefined();
}

Napi::Value IsHungUp(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  pollfd asked = {};
  asked.fd = static_cast<int>(RequireInteger(info[0], "descriptor", 0, INT32_MAX));
  // Errors and hang-ups are told whether or not they are asked for.
  int status;
  do
    status = poll(&asked, 1, 0);
  while (status < 0 && errno == EINTR);
  if (status < 0)
    Fail(env, "isHungUp", errno);
  return Napi::Boolean::New(env, (asked.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0);
}

Napi::Value ExchangePaths(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string one = RequireString(info[0], "one");
  const std::string other = RequireString(info[1], "other");
  if (syscall(SYS_renameat2, AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) < 0)
    Fail(env, "exchangePaths", errno, About(one));
  return env.Undefined();
}

} // namespace falcodrop
