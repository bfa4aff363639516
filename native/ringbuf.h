// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/libbpf.h>

#include "environment.h"
#include "fd.h"

namespace falcodrop {

class RingBuffer : public Handle<RingBuffer> {
public:
  static constexpr Class kClass = Class::RingBuffer;
  static constexpr const char *kName = "RingBuffer";
  static constexpr napi_type_tag kTag = {0x71c3b8f52a9e4d06, 0xae54c9017f8d2b36};

  struct Parts {
    Fd map;
    Napi::FunctionReference onRecord;
  };

  static void Define(Napi::Env env);
  explicit RingBuffer(const Napi::CallbackInfo &info);
  ~RingBuffer() override;
  void Release() noexcept;

private:
  Napi::Value Consume(const Napi::CallbackInfo &info);
  static int OnRecord(void *context, void *data, size_t size) noexcept;
  int Deliver(const void *data, size_t size) noexcept;
  void OnReadable() noexcept;
  void FreeRing() noexcept;

  Parts parts_;
  ring_buffer *ring_ = nullptr;
  LoopPoll *poll_ = nullptr;

  enum class Consuming { No, FromLoop, FromCall };
  Consuming consuming_ = Consuming::No;
  uint32_t delivered_ = 0;
};

/** ringBuffer of src/kernel/native.ts. */
Napi::Value OpenRingBuffer(const Napi::CallbackInfo &info);

} // namespace falcodrop
