// Emulates a device that is busy while the host is idle: sleeps, then copies a number.
#include <chrono>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

static ffi::Error Wait(float seconds, ffi::Buffer<ffi::S32> in, ffi::ResultBuffer<ffi::S32> out) {
  std::this_thread::sleep_for(std::chrono::duration<float>(seconds));
  out->typed_data()[0] = in.typed_data()[0];
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    Asleep, Wait,
    ffi::Ffi::Bind().Attr<float>("seconds").Arg<ffi::Buffer<ffi::S32>>().Ret<ffi::Buffer<ffi::S32>>());
