// SPDX-License-Identifier: Apache-2.0
#include "pin.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "error.h"

namespace falcodrop {

Fd OpenPinned(Napi::Env env, const char *operation, const std::string &path, Pinned kind,
              bool readOnly) {
  LIBBPF_OPTS(bpf_obj_get_opts, options);
  options.file_flags = readOnly ? BPF_F_RDONLY : 0;
  const int opened = bpf_obj_get_opts(path.c_str(), &options);
  if (opened < 0)
    Fail(env, operation, opened, About(path));
  Fd fd(opened);

  // BPF_OBJ_GET_INFO_BY_FD fills another structure for each kind and does not say which: ask what
  // it is first. (The name of the descriptor's inode says it too, but is bpf_link in one kernel and
  // bpf-link in another.)
  constexpr const char *kFields[] = {"map_type", "prog_type", "link_type"};
  constexpr const char *kKinds[] = {"map", "program", "link"};
  const auto wanted = static_cast<size_t>(kind);
  if (!FdInfo(env, operation, opened, kFields[wanted]))
    Fail(env, operation, EINVAL, About(path + " is not a " + kKinds[wanted]));
  return fd;
}

std::optional<std::string> FdInfo(Napi::Env env, const char *operation, int fd,
                                  const std::string &field) {
  const std::string path = "/proc/self/fdinfo/" + std::to_string(fd);
  const std::unique_ptr<FILE, int (*)(FILE *)> file(fopen(path.c_str(), "re"), fclose);
  if (!file)
    Fail(env, operation, errno, About(path));
  char line[256]; // "frozen:\t0\n"
  while (fgets(line, sizeof line, file.get()) != nullptr) {
    const std::string text(line, strcspn(line, "\n"));
    if (text.rfind(field + ":", 0) != 0)
      continue;
    const size_t value = text.find_first_not_of(" \t", field.size() + 1);
    return value == std::string::npos ? "" : text.substr(value);
  }
  return std::nullopt;
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
