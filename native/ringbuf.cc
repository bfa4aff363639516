// SPDX-License-Identifier: Apache-2.0
#include "ringbuf.h"

#include <cerrno>

#include "error.h"
#include "map.h"
#include "pin.h"

namespace falcodrop {
namespace {

/** Records in one loop turn; the descriptor stays readable and the rest comes in the next, after
 * other events. */
constexpr uint32_t kMostPerTurn = 1024;

} // namespace

RingBuffer::RingBuffer(const Napi::CallbackInfo &info) : Handle(info), parts_(TakeParts<Parts>()) {
  const Napi::Env env = info.Env();
  const LibbpfLog log;
  ring_ = ring_buffer__new(parts_.map.Get(), OnRecord, this, nullptr);
  if (ring_ == nullptr)
    Fail(env, "ringBuffer", errno, About(log.LastLine()));
  int error = 0;
  poll_ = LoopPoll::Start(
      Handles(), ring_buffer__epoll_fd(ring_), true, [this] { OnReadable(); }, &error);
  if (poll_ == nullptr) {
    FreeRing();
    Fail(env, "ringBuffer", error);
  }
  Ref(); // a source of events lives until close(), whoever holds it
}

RingBuffer::~RingBuffer() {
  FreeRing();
}

void RingBuffer::FreeRing() noexcept {
  // In the middle of libbpf's loop (process.exit() in the callback) the ring has to stay.
  if (ring_ == nullptr || consuming_ != Consuming::No)
    return;
  ring_buffer__free(std::exchange(ring_, nullptr));
  parts_.map.Reset();
}

void RingBuffer::Release() noexcept {
  if (poll_ != nullptr)
    std::exchange(poll_, nullptr)->Close();
  FreeRing();
  parts_.onRecord.Reset(); // it mostly refers to this object: a cycle that no collector sees
  uint32_t count = 0;
  napi_reference_unref(Env(), *this, &count);
}

int RingBuffer::OnRecord(void *context, void *data, size_t size) noexcept {
  return static_cast<RingBuffer *>(context)->Deliver(data, size);
}

/** Negative ends libbpf's loop; it has then moved past this record. */
int RingBuffer::Deliver(const void *data, size_t size) noexcept {
  const Napi::Env env = Env();
  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env, &scope) != napi_ok)
    return -ECANCELED;
  int status = 0;
  napi_value record = nullptr;
  if (napi_create_buffer_copy(env, size, data, nullptr, &record) != napi_ok) {
    status = -ENOMEM;
  } else if (consuming_ == Consuming::FromLoop) {
    if (!CallFromLoop(env, parts_.onRecord, {record}))
      status = -ECANCELED;
  } else {
    napi_value callee = nullptr;
    napi_value receiver = nullptr;
    napi_value result = nullptr;
    if (napi_get_reference_value(env, parts_.onRecord, &callee) != napi_ok ||
        napi_get_global(env, &receiver) != napi_ok ||
        napi_call_function(env, receiver, callee, 1, &record, &result) != napi_ok)
      status = -ECANCELED; // what was thrown stays pending and goes to the caller of consume()
  }
  napi_close_handle_scope(env, scope);
  delivered_++;
  if (status == 0 && !IsOpen())
    status = -ECANCELED;
  if (status == 0 && consuming_ == Consuming::FromLoop && delivered_ >= kMostPerTurn)
    status = -EAGAIN;
  return status;
}

void RingBuffer::OnReadable() noexcept {
  if (consuming_ != Consuming::No) // a nested loop turn cannot happen; be safe
    return;
  const Napi::Env env = Env();
  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env, &scope) != napi_ok)
    return;
  // The callback may close us; without a reference the object could then be collected under our
  // feet.
  uint32_t count = 0;
  const bool held = napi_reference_ref(env, *this, &count) == napi_ok;
  consuming_ = Consuming::FromLoop;
  delivered_ = 0;
  ring_buffer__consume(ring_);
  consuming_ = Consuming::No;
  if (!IsOpen())
    FreeRing();
  if (held)
    napi_reference_unref(env, *this, &count);
  napi_close_handle_scope(env, scope);
}

Napi::Value RingBuffer::Consume(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  RequireOpen(env);
  // libbpf moves past a record only after its callback: from inside, the same record would come
  // again.
  if (consuming_ != Consuming::No)
    throw Napi::Error::New(env, "RingBuffer.consume() called from its own callback");
  consuming_ = Consuming::FromCall;
  delivered_ = 0;
  const int status = ring_buffer__consume(ring_);
  consuming_ = Consuming::No;
  if (!IsOpen())
    FreeRing();
  if (env.IsExceptionPending())
    throw Napi::Error::New(env);
  if (status < 0 && IsOpen())
    Fail(env, "consume", status);
  return Napi::Number::New(env, delivered_);
}

void RingBuffer::Define(Napi::Env env) {
  Handle::Define(env, {
                          InstanceMethod<&RingBuffer::Consume>("consume"),
                          InstanceMethod("close", &RingBuffer::Close),
                      });
}

Napi::Value OpenRingBuffer(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const BpfMap &map = BpfMap::Require(info[0], "map");
  const Napi::Function onRecord = RequireFunction(info[1], "onRecord");
  RingBuffer::Parts parts;
  parts.map = Duplicate(env, "ringBuffer", map.FdNumber());
  parts.onRecord = Napi::Persistent(onRecord);
  return RingBuffer::Create(env, std::move(parts));
}

} // namespace falcodrop
