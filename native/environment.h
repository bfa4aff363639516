// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>
#include <uv.h>

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>

#include "check.h"

namespace falcodrop {

/** Something that must let go of the kernel's things when its environment ends. */
class Closable {
public:
  virtual ~Closable() = default;
  /** Called once, from the environment's cleanup: no JavaScript may run and none may be called. */
  virtual void CloseAtExit() noexcept = 0;
};

/**
 * The open handles of one environment (the main thread, or one worker thread), closed in reverse
 * order of opening when it ends. All its calls come from the environment's own thread. It outlives
 * the environment's data, because finalizers may run after that is gone: hence the shared pointers.
 */
class Registry {
public:
  using Entry = std::list<Closable *>::iterator;

  explicit Registry(uv_loop_t *loop) : loop_(loop) {}

  Entry Add(Closable *handle) { return handles_.insert(handles_.end(), handle); }
  void Remove(Entry entry) { handles_.erase(entry); }

  uv_loop_t *Loop() const { return loop_; }

  /** libuv frees a handle only in a later loop turn; the environment has to wait for that. */
  void LoopHandleOpened() { loopHandles_++; }
  void LoopHandleClosed();

  /** Closes everything; calls `done` when the last libuv handle is gone (maybe at once). */
  void End(std::function<void()> done);

private:
  uv_loop_t *loop_;
  std::list<Closable *> handles_;
  size_t loopHandles_ = 0;
  std::function<void()> done_;
};

enum class Class { Object, Map, MappedArray, Program, Link, RingBuffer, Watch, FileLock, Count };

/** The addon's data of one environment. */
class Environment {
public:
  explicit Environment(Napi::Env env);

  static Environment &Of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  const std::shared_ptr<Registry> &Handles() const { return registry_; }
  Napi::FunctionReference &Constructor(Class which) {
    return constructors_[static_cast<size_t>(which)];
  }

private:
  std::shared_ptr<Registry> registry_;
  std::array<Napi::FunctionReference, static_cast<size_t>(Class::Count)> constructors_;
};

/**
 * A JavaScript object that owns something of the kernel's. A concrete class says
 *   - `kClass`, `kName` (for messages), `kTag` (16 random bytes: tells its objects from all
 * others),
 *   - `struct Parts`: what it is made of; only C++ can make one, `new` from JavaScript throws a
 * TypeError,
 *   - `Release()`: lets go, at close() or at the environment's end; members free themselves at GC.
 */
template <typename Self> class Handle : public Napi::ObjectWrap<Self>, public Closable {
public:
  template <typename Parts> static Napi::Object Create(Napi::Env env, Parts parts) {
    pending = &parts;
    struct Reset {
      ~Reset() { pending = nullptr; }
    } reset;
    return Environment::Of(env).Constructor(Self::kClass).New({});
  }

  /** The object behind an argument; TypeError when it is not one of ours, Error when it is closed.
   */
  static Self &Require(Napi::Value value, const char *name) {
    const Napi::Env env = value.Env();
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&Self::kTag))
      ThrowType(env, std::string(name) + " must be a " + Self::kName);
    Self *self = Napi::ObjectWrap<Self>::Unwrap(value.As<Napi::Object>());
    self->RequireOpen(env);
    return *self;
  }

  static void Define(Napi::Env env,
                     const std::vector<Napi::ClassPropertyDescriptor<Self>> &members) {
    Environment::Of(env).Constructor(Self::kClass) =
        Napi::Persistent(Napi::ObjectWrap<Self>::DefineClass(env, Self::kName, members));
  }

  explicit Handle(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Self>(info) {
    if (pending == nullptr)
      ThrowType(info.Env(), std::string(Self::kName) + " cannot be constructed");
    info.This().template As<Napi::Object>().TypeTag(&Self::kTag);
    registry_ = Environment::Of(info.Env()).Handles();
    entry_ = registry_->Add(this);
    open_ = true;
  }

  ~Handle() override { Leave(); }

  Napi::Value Close(const Napi::CallbackInfo &info) {
    if (Leave())
      static_cast<Self *>(this)->Release();
    return info.Env().Undefined();
  }

  void CloseAtExit() noexcept override {
    if (Leave())
      static_cast<Self *>(this)->Release();
  }

  bool IsOpen() const { return open_; }

protected:
  void RequireOpen(Napi::Env env) const {
    if (!open_)
      throw Napi::Error::New(env, std::string(Self::kName) + " is closed");
  }

  template <typename Parts> static Parts TakeParts() {
    return std::move(*static_cast<Parts *>(std::exchange(pending, nullptr)));
  }

  const std::shared_ptr<Registry> &Handles() const { return registry_; }

private:
  /** True the first time. */
  bool Leave() noexcept {
    if (!open_)
      return false;
    open_ = false;
    registry_->Remove(entry_);
    return true;
  }

  /** The parts of the object being made, for the moment between Create and the constructor. */
  static inline thread_local void *pending = nullptr;

  std::shared_ptr<Registry> registry_;
  Registry::Entry entry_;
  bool open_ = false;
};

/** A uv_poll_t for readability that frees itself after Close(). */
class LoopPoll {
public:
  /** Null and `*error` set (positive errno) when libuv refuses. `ready` must not throw. */
  static LoopPoll *Start(std::shared_ptr<Registry> registry, int fd, bool keepsLoopAlive,
                         std::function<void()> ready, int *error);
  /** After this `ready` is not called again and the descriptor may be closed. */
  void Close() noexcept;

private:
  explicit LoopPoll(std::shared_ptr<Registry> registry, std::function<void()> ready)
      : registry_(std::move(registry)), ready_(std::move(ready)) {}

  static void OnEvent(uv_poll_t *handle, int status, int events);

  uv_poll_t poll_ = {};
  std::shared_ptr<Registry> registry_;
  std::function<void()> ready_;
};

/** A one-shot uv_timer_t that frees itself after Close(). Keeps the loop alive while it runs. */
class LoopTimer {
public:
  static LoopTimer *Make(std::shared_ptr<Registry> registry, std::function<void()> fired);
  void Start(uint64_t afterMs) noexcept;
  void Close() noexcept;

private:
  explicit LoopTimer(std::shared_ptr<Registry> registry, std::function<void()> fired)
      : registry_(std::move(registry)), fired_(std::move(fired)) {}

  uv_timer_t timer_ = {};
  std::shared_ptr<Registry> registry_;
  std::function<void()> fired_;
};

/**
 * Calls `function` from the event loop. What it throws becomes an uncaught exception. Microtasks
 * and ticks run before this returns, so anything of ours may have been closed meanwhile. False when
 * the environment runs no more JavaScript.
 */
bool CallFromLoop(Napi::Env env, const Napi::FunctionReference &function,
                  const std::vector<napi_value> &arguments) noexcept;

} // namespace falcodrop
