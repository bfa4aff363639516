// SPDX-License-Identifier: Apache-2.0
#include "pin.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cerrno>

#include "error.h"

namespace falcodrop {

Fd OpenPinned(Napi::Env env, const char *operation, const std::string &path, const char *inode,
              bool readOnly) {
  LIBBPF_OPTS(bpf_obj_get_opts, options);
  options.file_flags = readOnly ? BPF_F_RDONLY : 0;
  const int opened = bpf_obj_get_opts(path.c_str(), &options);
  if (opened < 0)
    Fail(env, operation, opened, About(path));
  Fd fd(opened);

  // BPF_OBJ_GET_INFO_BY_FD fills another structure for each kind and does not say which: ask what
  // it is first.
  const std::string own = "/proc/self/fd/" + std::to_string(opened);
  char name[64];
  const ssize_t length = readlink(own.c_str(), name, sizeof name);
  if (length < 0)
    Fail(env, operation, errno, About(own));
  const std::string is(name, static_cast<size_t>(length));
  if (is != inode)
    Fail(env, operation, EINVAL, About(path + " is a " + is + ", not a " + inode));
  return fd;
}

void PinTo(Napi::Env env, int fd, const std::string &path) {
  const int status = bpf_obj_pin(fd, path.c_str());
  if (status < 0)
    Fail(env, "pin", status, About(path));
}

Fd Duplicate(Napi::Env env, const char *operation, int fd) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0)
    Fail(env, operation, errno);
  return Fd(copy);
}

} // namespace falcodrop
