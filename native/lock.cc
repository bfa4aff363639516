// SPDX-License-Identifier: Apache-2.0
#include "lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

#include "environment.h"
#include "error.h"
#include "fd.h"

namespace falcodrop {
namespace {

class FileLock : public Handle<FileLock> {
public:
  static constexpr Class kClass = Class::FileLock;
  static constexpr const char *kName = "FileLock";
  static constexpr napi_type_tag kTag = {0x94b5e20d76cf4a18, 0x83d1f79c0e4b6a52};

  struct Parts {
    Fd fd;
  };

  static void Define(Napi::Env env) {
    Handle::Define(env, {InstanceMethod("release", &FileLock::Close)});
  }

  explicit FileLock(const Napi::CallbackInfo &info) : Handle(info), parts_(TakeParts<Parts>()) {}
  /** The last descriptor of an open file frees its flock. */
  void Release() noexcept { parts_.fd.Reset(); }

private:
  Parts parts_;
};

/** LOCK_EX or LOCK_SH. */
int Operation(Napi::Value mode) {
  return RequireChoice(mode, "mode", "exclusive", "shared") ? LOCK_EX : LOCK_SH;
}

/** Opens without waiting for the other end of a FIFO, and reads nothing. */
Fd OpenForLock(const std::string &path) {
  return Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

/** 0, EWOULDBLOCK, or another errno. */
int TryFlock(int fd, int operation) {
  int status;
  do
    status = flock(fd, operation | LOCK_NB);
  while (status < 0 && errno == EINTR);
  return status < 0 ? errno : 0;
}

Napi::Object MakeLock(Napi::Env env, Fd fd) {
  FileLock::Parts parts;
  parts.fd = std::move(fd);
  return FileLock::Create(env, std::move(parts));
}

/**
 * A lock being waited for: a timer that tries again. Not the thread pool: a blocking flock there
 * would hold up the process's exit, and four of them would stop every file operation of Node's. A
 * try costs about a microsecond.
 */
class LockWait : public Closable {
public:
  static Napi::Promise Begin(Napi::Env env, Fd fd, int operation, uint64_t timeoutMs) {
    auto *wait = new LockWait(env, std::move(fd), operation, timeoutMs); // deletes itself
    const Napi::Promise promise = wait->deferred_.Promise();
    wait->StartNap();
    return promise;
  }

  /** The promise stays open: nobody is left to hear of it. */
  void CloseAtExit() noexcept override { delete this; }

  ~LockWait() override {
    timer_->Close();
    registry_->Remove(entry_);
  }

private:
  /** The first naps are short, for holders that are about done; then the holder is not disturbed so
   * often. */
  static constexpr uint64_t kShortNapMs = 1;
  static constexpr uint64_t kLongNapMs = 5;
  static constexpr uint32_t kShortNaps = 50;

  LockWait(Napi::Env env, Fd fd, int operation, uint64_t timeoutMs)
      : env_(env), registry_(Environment::Of(env).Handles()), fd_(std::move(fd)),
        operation_(operation), deadlineNs_(uv_hrtime() + timeoutMs * 1'000'000),
        deferred_(Napi::Promise::Deferred::New(env)), context_(env, "falcodrop.lock") {
    entry_ = registry_->Add(this);
    timer_ = LoopTimer::Make(registry_, [this] { Fired(); });
  }

  void StartNap() noexcept {
    const uint64_t now = uv_hrtime();
    const uint64_t leftMs = now >= deadlineNs_ ? 0 : (deadlineNs_ - now) / 1'000'000 + 1;
    timer_->Start(std::min(leftMs, naps_++ < kShortNaps ? kShortNapMs : kLongNapMs));
  }

  void Fired() noexcept {
    const int error = TryFlock(fd_.Get(), operation_);
    if (error == EWOULDBLOCK && uv_hrtime() < deadlineNs_) {
      StartNap();
      return;
    }
    const std::unique_ptr<LockWait> self(this);
    const Napi::HandleScope scope(env_);
    try {
      const Napi::CallbackScope callbacks(env_, context_); // microtasks run when it ends
      if (error == 0)
        deferred_.Resolve(MakeLock(env_, std::move(fd_)));
      else if (error == EWOULDBLOCK)
        deferred_.Resolve(env_.Null());
      else
        deferred_.Reject(MakeFailure(env_, "lock", error).Value());
    } catch (const std::exception &) {
      // Only while the environment is being stopped: no JavaScript is left that waits.
    }
  }

  Napi::Env env_;
  std::shared_ptr<Registry> registry_;
  Registry::Entry entry_;
  Fd fd_;
  int operation_;
  uint64_t deadlineNs_;
  uint32_t naps_ = 0;
  Napi::Promise::Deferred deferred_;
  Napi::AsyncContext context_;
  LoopTimer *timer_ = nullptr;
};

} // namespace

void DefineFileLock(Napi::Env env) {
  FileLock::Define(env);
}

Napi::Value TryLock(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string path = RequireString(info[0], "path");
  const int operation = Operation(info[1]);
  Fd fd = OpenForLock(path);
  if (!fd.Valid())
    Fail(env, "tryLock", errno, About(path));
  const int error = TryFlock(fd.Get(), operation);
  if (error == EWOULDBLOCK)
    return env.Null();
  if (error != 0)
    Fail(env, "tryLock", error, About(path));
  return MakeLock(env, std::move(fd));
}

Napi::Value Lock(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string path = RequireString(info[0], "path");
  const int operation = Operation(info[1]);
  const auto timeoutMs = static_cast<uint64_t>(RequireInteger(info[2], "timeoutMs", 0, INT32_MAX));
  // A free lock is had at once, without a turn of the loop.
  const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
  Fd fd = OpenForLock(path);
  const int error = fd.Valid() ? TryFlock(fd.Get(), operation) : errno;
  if (error == EWOULDBLOCK && timeoutMs > 0)
    return LockWait::Begin(env, std::move(fd), operation, timeoutMs);
  if (error == 0)
    deferred.Resolve(MakeLock(env, std::move(fd)));
  else if (error == EWOULDBLOCK)
    deferred.Resolve(env.Null());
  else
    deferred.Reject(MakeFailure(env, "lock", error, About(path)).Value());
  return deferred.Promise();
}

} // namespace falcodrop
