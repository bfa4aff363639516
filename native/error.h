// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <cstdint>
#include <optional>
#include <string>

namespace falcodrop {

/** What a failed call may carry beside its number. */
struct FailureDetails {
  /** Appended to the message: what it was about, or libbpf's own words. */
  std::string about;
  /** Batch calls: elements done before the failure. */
  std::optional<uint32_t> count;
  /** Verifier log. */
  std::string log;
};

/** "ENOENT" for 2; libbpf's own numbers (4000 and up) and the kernel's ENOTSUPP (524) have names
 * too. */
std::string ErrorName(int error);

/** The NativeError of src/kernel/native.ts. `error` is the errno, of either sign. */
Napi::Error MakeFailure(Napi::Env env, const char *operation, int error,
                        const FailureDetails &details = {});

[[noreturn]] void Fail(Napi::Env env, const char *operation, int error,
                       const FailureDetails &details = {});

/** A fresh FailureDetails with only `about` set: usually a path or a name. */
inline FailureDetails About(std::string about) {
  FailureDetails details;
  details.about = std::move(about);
  return details;
}

/**
 * Collects what libbpf prints (warnings) on this thread while it lives; libbpf is silent otherwise.
 * Captures nest: the innermost one gets the text.
 */
class LibbpfLog {
public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog &) = delete;
  LibbpfLog &operator=(const LibbpfLog &) = delete;

  /** The last `limit` bytes, cut at a line's beginning. */
  std::string Tail(size_t limit) const;
  /** The last line that is not empty, without libbpf's "libbpf: " mark. */
  std::string LastLine() const;
  void Append(const char *text, size_t length);

private:
  std::string text_;
  LibbpfLog *outer_;
};

/** Routes libbpf's printing to the LibbpfLog of the calling thread, process-wide. */
void SilenceLibbpf();

} // namespace falcodrop
