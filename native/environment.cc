// SPDX-License-Identifier: Apache-2.0
#include "environment.h"

#include <vector>

namespace falcodrop {

void Registry::LoopHandleClosed() {
  loopHandles_--;
  if (loopHandles_ == 0 && done_)
    std::exchange(done_, nullptr)();
}

void Registry::End(std::function<void()> done) {
  while (!handles_.empty())
    handles_.back()->CloseAtExit(); // takes itself out of the list
  if (loopHandles_ == 0)
    done();
  else
    done_ = std::move(done);
}

Environment::Environment(Napi::Env env) {
  uv_loop_t *loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok)
    throw Napi::Error::New(env, "no event loop");
  registry_ = std::make_shared<Registry>(loop);

  // The asynchronous kind: Node turns the loop until the hook is removed, so libuv's close
  // callbacks run. Otherwise a worker that ends with an open uv_poll_t aborts the process when it
  // closes its loop.
  struct Hook {
    std::shared_ptr<Registry> registry;
    napi_async_cleanup_hook_handle handle = nullptr;
  };
  auto *hook = new Hook{registry_};
  const auto end = [](napi_async_cleanup_hook_handle, void *argument) {
    auto *ending = static_cast<Hook *>(argument);
    ending->registry->End([ending] {
      napi_remove_async_cleanup_hook(ending->handle);
      delete ending;
    });
  };
  if (napi_add_async_cleanup_hook(env, end, hook, &hook->handle) != napi_ok) {
    delete hook;
    throw Napi::Error::New(env, "no cleanup hook");
  }
}

void LoopPoll::OnEvent(uv_poll_t *handle, int status, int) {
  // libuv stops a handle whose descriptor reports an error, and calls it EBADF. On a netlink socket
  // that is a lost event (ENOBUFS), which the next recv() clears: go on.
  if (status < 0)
    uv_poll_start(handle, UV_READABLE, OnEvent);
  static_cast<LoopPoll *>(handle->data)->ready_();
}

LoopPoll *LoopPoll::Start(std::shared_ptr<Registry> registry, int fd, bool keepsLoopAlive,
                          std::function<void()> ready, int *error) {
  uv_loop_t *loop = registry->Loop();
  std::unique_ptr<LoopPoll> poll(new LoopPoll(std::move(registry), std::move(ready)));
  int status = uv_poll_init(loop, &poll->poll_, fd);
  if (status < 0) { // not initialised: nothing to close
    *error = -status;
    return nullptr;
  }
  poll->poll_.data = poll.get();
  poll->registry_->LoopHandleOpened();
  status = uv_poll_start(&poll->poll_, UV_READABLE, OnEvent);
  if (status < 0) {
    *error = -status;
    poll.release()->Close();
    return nullptr;
  }
  if (!keepsLoopAlive)
    uv_unref(reinterpret_cast<uv_handle_t *>(&poll->poll_));
  return poll.release();
}

void LoopPoll::Close() noexcept {
  uv_close(reinterpret_cast<uv_handle_t *>(&poll_), [](uv_handle_t *handle) {
    auto *poll = static_cast<LoopPoll *>(handle->data);
    const std::shared_ptr<Registry> registry = poll->registry_;
    delete poll;
    registry->LoopHandleClosed();
  });
}

LoopTimer *LoopTimer::Make(std::shared_ptr<Registry> registry, std::function<void()> fired) {
  uv_loop_t *loop = registry->Loop();
  auto *timer = new LoopTimer(std::move(registry), std::move(fired));
  uv_timer_init(loop, &timer->timer_); // cannot fail
  timer->timer_.data = timer;
  timer->registry_->LoopHandleOpened();
  return timer;
}

void LoopTimer::Start(uint64_t afterMs) noexcept {
  uv_timer_start(
      &timer_, [](uv_timer_t *handle) { static_cast<LoopTimer *>(handle->data)->fired_(); },
      afterMs, 0);
}

void LoopTimer::Close() noexcept {
  uv_close(reinterpret_cast<uv_handle_t *>(&timer_), [](uv_handle_t *handle) {
    auto *timer = static_cast<LoopTimer *>(handle->data);
    const std::shared_ptr<Registry> registry = timer->registry_;
    delete timer;
    registry->LoopHandleClosed();
  });
}

bool CallFromLoop(Napi::Env env, const Napi::FunctionReference &function,
                  const std::vector<napi_value> &arguments) noexcept {
  napi_value callee = nullptr;
  napi_value receiver = nullptr;
  if (napi_get_reference_value(env, function, &callee) != napi_ok || callee == nullptr ||
      napi_get_global(env, &receiver) != napi_ok)
    return false;
  napi_value result = nullptr;
  const napi_status status = napi_make_callback(env, nullptr, receiver, callee, arguments.size(),
                                                arguments.data(), &result);
  if (status == napi_ok)
    return true;
  bool pending = false;
  if (status != napi_pending_exception || napi_is_exception_pending(env, &pending) != napi_ok ||
      !pending)
    return false; // the environment is being stopped
  napi_value error = nullptr;
  return napi_get_and_clear_last_exception(env, &error) == napi_ok &&
         napi_fatal_exception(env, error) == napi_ok;
}

} // namespace falcodrop
