// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <utility>

namespace falcodrop {

/** Owns one file descriptor. Every descriptor in the addon lives in one of these. */
class Fd {
public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd &operator=(Fd &&other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  Fd(const Fd &) = delete;
  Fd &operator=(const Fd &) = delete;
  ~Fd() { Reset(); }

  int Get() const { return fd_; }
  bool Valid() const { return fd_ >= 0; }

  /** Not retried on EINTR: Linux has freed the number by then. */
  void Reset() noexcept {
    if (fd_ >= 0)
      close(std::exchange(fd_, -1));
  }

private:
  int fd_ = -1;
};

} // namespace falcodrop
