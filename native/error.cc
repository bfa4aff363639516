// SPDX-License-Identifier: Apache-2.0
#include "error.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace falcodrop {
namespace {

/** include/linux/errno.h of the kernel; leaks to user space from bpf(2), unknown to libc. */
constexpr int kKernelNotSupported = 524;

/** Names of enum libbpf_errno, from __LIBBPF_ERRNO__START (4000) on. */
constexpr const char *kLibbpfNames[] = {
    "LIBBPF_ERRNO__LIBELF", "LIBBPF_ERRNO__FORMAT",   "LIBBPF_ERRNO__KVERSION",
    "LIBBPF_ERRNO__ENDIAN", "LIBBPF_ERRNO__INTERNAL", "LIBBPF_ERRNO__RELOC",
    "LIBBPF_ERRNO__LOAD",   "LIBBPF_ERRNO__VERIFY",   "LIBBPF_ERRNO__PROG2BIG",
    "LIBBPF_ERRNO__KVER",   "LIBBPF_ERRNO__PROGTYPE", "LIBBPF_ERRNO__WRNGPID",
    "LIBBPF_ERRNO__INVSEQ", "LIBBPF_ERRNO__NLPARSE",
};

/** A program may print its verifier log (megabytes) on several lines; beyond this the head is cut.
 */
constexpr size_t kCaptureLimit = 256 * 1024;

thread_local LibbpfLog *current = nullptr;

std::string ErrorSentence(int error) {
  if (error == kKernelNotSupported)
    return "Operation not supported by the kernel";
  if (error >= LIBBPF_ERRNO__LIBELF) {
    char text[128];
    libbpf_strerror(error, text, sizeof text);
    return text;
  }
  const char *sentence = strerrordesc_np(error);
  return sentence != nullptr ? sentence : "Unknown error " + std::to_string(error);
}

int Print(enum libbpf_print_level level, const char *format, va_list arguments) noexcept {
  if (level != LIBBPF_WARN || current == nullptr)
    return 0;
  char *text = nullptr;
  const int length = vasprintf(&text, format, arguments);
  if (length > 0)
    current->Append(text, static_cast<size_t>(length));
  if (length >= 0)
    free(text);
  return 0;
}

} // namespace

std::string ErrorName(int error) {
  if (error == kKernelNotSupported)
    return "ENOTSUPP";
  const int index = error - LIBBPF_ERRNO__LIBELF;
  if (index >= 0 && index < static_cast<int>(std::size(kLibbpfNames)))
    return kLibbpfNames[index];
  const char *name = strerrorname_np(error);
  return name != nullptr ? name : "E" + std::to_string(error);
}

Napi::Error MakeFailure(Napi::Env env, const char *operation, int error,
                        const FailureDetails &details) {
  const int number = error < 0 ? -error : error;
  const std::string code = ErrorName(number);
  std::string message = std::string(operation) + ": " + ErrorSentence(number) + " (" + code + ")";
  if (!details.about.empty())
    message += ": " + details.about;
  Napi::Error failure = Napi::Error::New(env, message);
  failure.Set("operation", Napi::String::New(env, operation));
  failure.Set("errno", Napi::Number::New(env, number));
  failure.Set("code", Napi::String::New(env, code));
  if (details.count)
    failure.Set("count", Napi::Number::New(env, *details.count));
  if (!details.log.empty())
    failure.Set("log", Napi::String::New(env, details.log));
  return failure;
}

void Fail(Napi::Env env, const char *operation, int error, const FailureDetails &details) {
  throw MakeFailure(env, operation, error, details);
}

LibbpfLog::LibbpfLog() : outer_(current) {
  current = this;
}

LibbpfLog::~LibbpfLog() {
  current = outer_;
}

void LibbpfLog::Append(const char *text, size_t length) {
  if (length > kCaptureLimit) {
    text += length - kCaptureLimit;
    length = kCaptureLimit;
  }
  if (text_.size() + length > 2 * kCaptureLimit)
    text_.erase(0, text_.size() - kCaptureLimit);
  text_.append(text, length);
}

std::string LibbpfLog::Tail(size_t limit) const {
  if (text_.size() <= limit)
    return text_;
  const size_t from = text_.size() - limit;
  const size_t line = text_.find('\n', from);
  return line == std::string::npos ? text_.substr(from) : text_.substr(line + 1);
}

std::string LibbpfLog::LastLine() const {
  const size_t end = text_.find_last_not_of('\n');
  if (end == std::string::npos)
    return "";
  const size_t newline = text_.rfind('\n', end);
  const size_t begin = newline == std::string::npos ? 0 : newline + 1;
  std::string line = text_.substr(begin, end - begin + 1);
  constexpr char kMark[] = "libbpf: ";
  if (line.rfind(kMark, 0) == 0)
    line.erase(0, sizeof kMark - 1);
  return line;
}

void SilenceLibbpf() {
  libbpf_set_print(Print);
}

} // namespace falcodrop
