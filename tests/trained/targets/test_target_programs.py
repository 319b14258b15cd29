"""Texts of compiled programs, cut from those of H100, v5e and a CPU, and what is read off them."""

from dcgan_jax.trained.targets import programs
from dcgan_jax.trained.targets.programs import Counted

H100 = """HloModule jit_steps, is_scheduled=true

%fused_add.6 (param_0: u8[50000,64,64,3], param_1: s32[1,128]) -> f32[128,64,64,3] {
  %param_0 = u8[50000,64,64,3]{3,2,1,0} parameter(0)
  %convert.3 = f32[50000,64,64,3]{3,2,1,0} convert(%param_0)
  ROOT %gather.1 = f32[128,64,64,3]{3,2,1,0} gather(%convert.3, %param_1), slice_sizes={1,64,64,3}
}

ENTRY %main.162 (images: u8[50000,64,64,3], indices: s32[1,128]) -> (f32[], f32[2,512]) {
  %images = u8[50000,64,64,3]{3,2,1,0} parameter(0), metadata={op_name="batches.examples.images"}
  %add_fusion = f32[128,64,64,3]{3,2,1,0} fusion(%images, %indices), kind=kLoop, calls=%fused_add.6
  %cudnn-conv.1 = (f32[128,32,32,64]{3,2,1,0}, u8[4096]{0}) custom-call(%add_fusion, %kernel), \
window={size=4x4 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward"
  %cudnn-conv.2 = (f32[4,4,3,64]{3,2,1,0}, u8[0]{0}) custom-call(%a, %b), \
custom_call_target="__cudnn$convBackwardFilter"
  %cudnn-conv.3 = (f32[4,4,3,64]{3,2,1,0}, u8[0]{0}) custom-call(%a, %b), custom_call_target="__cudnn$convNew"
  %gemm = (f32[128,8192]{1,0}, s8[4194304]{0}) custom-call(%z, %w), custom_call_target="__cublas$gemm"
  %all-reduce-start = f32[2,512]{1,0} all-reduce-start(%x), channel_id=1, to_apply=%region_2.3
  %all-reduce-done = f32[2,512]{1,0} all-reduce-done(%all-reduce-start)
  %all-reduce.7 = (f32[8]{0}, f32[2]{0}) all-reduce(%y, %z), channel_id=2, to_apply=%region_2.3
  %all-gather-start = (f32[4]{0}, f32[32]{0}) all-gather-start(%y), dimensions={0}
  %conditional.1 = (f32[], /*index=1*/f32[2,512]{1,0}) conditional(%p, %q, %q), branch_computations={%a, %b}
  ROOT %tuple = (f32[], f32[2,512]{1,0}) tuple(%c, %all-reduce-done)
}
"""
V5E = """%fused_computation (param_0.2: u8[50000,64,64,3], param_1.4: s32[1024]) -> u8[128,64,64,3] {
  %param_0.2 = u8[50000,64,64,3]{2,1,3,0:T(8,128)(4,1)} parameter(0)
  ROOT %convolution.9 = f32[128,8,8,256]{3,0,2,1:T(8,128)S(1)} convolution(%x, %k), \
window={size=4x4 pad=2_2x2_2 lhs_dilate=2x2 rhs_reversal=1x1}, dim_labels=b01f_01oi->b01f
}

ENTRY %main.162 (images: u8[50000,64,64,3]) -> u8[128,64,64,3] {
  %images = u8[50000,64,64,3]{0,2,3,1:T(32,128)(4,1)} parameter(90), sharding={replicated}
  %copy.119 = u8[50000,64,64,3]{2,1,3,0:T(8,128)(4,1)} copy(%images), sharding={replicated}
  %pad.1 = u8[50000,64,128,3]{2,1,3,0:T(8,128)(4,1)} pad(%images, %zero), padding=0_0x0_0x0_64x0_0
  %convolution.3 = f32[128,8192]{1,0:T(8,128)S(1)} convolution(%z, %w), dim_labels=bf_io->bf
  ROOT %fusion.1 = u8[128,64,64,3]{3,2,1,0} fusion(%copy.119, %i), kind=kCustom, calls=%fused_computation
}
"""
CPU = """ENTRY main {
  dot.1 = f32[64,8192]{1,0} dot(z, w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  convolution.1 = f32[64,8,8,128]{3,2,1,0} convolution(a, b), window={size=4x4 stride=2x2}
}
"""
LOWERED = """  func.func public @main(%arg0: tensor<20x8x8x1xui8>) -> tensor<4x8x8x1xui8> {
    %0:2 = stablehlo.while(%iterArg = %arg0) : tensor<20x8x8x1xui8>, tensor<i32>
    %1 = "stablehlo.gather"(%arg0, %i) <{}> : (tensor<20x8x8x1xui8>, tensor<4x1xi32>) -> tensor<4x8x8x1xui8>
    %2 = stablehlo.transpose %arg0, dims = [0, 3, 1, 2] : (tensor<20x8x8x1xui8>) -> tensor<20x1x8x8xui8>
    %3 = stablehlo.transpose %2, dims = [0, 3, 1, 2] : (tensor<20x1x8x8xui8>) -> tensor<20x8x1x8xui8>
    %4 = call @take(%3, %1) : (tensor<20x8x1x8xui8>, tensor<4x8x8x1xui8>) -> tensor<4x8x8x1xui8>
    return %4 : tensor<4x8x8x1xui8>
"""


def test_convolutions_by_what_became_of_them():
  kinds = {'cuDNN forward': 1, 'cuDNN backward-filter': 1, 'cuDNN other': 1}
  assert programs.convolutions(H100) == kinds
  assert programs.convolutions(V5E) == {'in a fusion': 1}
  assert programs.convolutions(CPU) == {'alone': 1}
  assert [programs.products(text) for text in (H100, V5E, CPU)] == [1, 1, 1]


def test_collectives_and_the_bytes_that_each_device_receives():
  assert programs.collectives(H100) == [
    Counted('all-gather', 1, 32 * 4),
    Counted('all-reduce', 2, (2 * 512 + 8 + 2) * 4),
  ]
  assert programs.collectives(V5E) == []


def test_arrays_as_large_as_the_data_set():
  """Finds a relayout and a padded copy, and not what a fusion computes on the way, number by number."""
  assert programs.like(H100, 50_000, 50_000 * 64 * 64 * 3) == []
  size = 50_000 * 64 * 64 * 3
  assert programs.like(V5E, 50_000, size) == [Counted('copy', 1, size), Counted('pad', 1, 2 * size)]
  assert programs.like(V5E, 1024, 1024 * 1024) == [
    Counted('convolution', 1, 128 * 8192 * 4)
  ]  # as many numbers


def test_branches():
  assert programs.branches(H100) == 1 and programs.branches(V5E) == 0


def test_shapes():
  arrays = programs.arrays('(bf16[2,3]{1,0:T(8,128)(2,1)}, pred[], s4[8]{0}, u8[0]{0}, f8e4m3fn[5], token[])')
  assert [(array.dims, array.bytes) for array in arrays[:5]] == [
    ((2, 3), 12),
    ((), 1),
    ((8,), 4),
    ((0,), 0),
    ((5,), 5),
  ]


def test_uses_in_a_lowered_program():
  assert programs.uses(LOWERED, '20x8x8x1xui8') == {'gather': 1, 'transpose': 1}
  assert programs.uses(LOWERED, '20x1x8x8xui8') == {'transpose': 2}
  assert programs.uses(LOWERED, '20x8x1x8xui8') == {'transpose': 1}
