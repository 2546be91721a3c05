"""A compiled program as XLA prints it, cut to what its readers look at."""

# Sizes in bytes: 4x8 f32 is 128, 16x8 bf16 is 256, 16 f32 is 64.
PROGRAM = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[4,8]{1,0})->f32[4,8]{1,0}}

%fused_computation (param_0.1: f32[4,8]) -> f32[4,8] {
  %param_0.1 = f32[4,8]{1,0:T(8,128)} parameter(0)
  ROOT %inner = f32[4,8]{1,0:T(8,128)} multiply(%param_0.1, %param_0.1)
}

%body.1 (state: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %state = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) parameter(0)
  %value = f32[4,8]{1,0:T(8,128)} get-tuple-element(%state), index=1
  %summed = f32[4,8]{1,0:T(8,128)} all-reduce(%value), channel_id=3, replica_groups={{0,1}}, to_apply=%add.27
  ROOT %next = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) tuple(%count, %summed)
}

ENTRY %main.9 (weights: f32[4,8], rows: bf16[16,8]) -> (f32[4,8]) {
  %weights = f32[4,8]{1,0:T(8,128)} parameter(0), sharding={replicated}
  %rows = bf16[16,8]{1,0:T(8,128)(2,1)} parameter(1), metadata={op_name="batch['canvas']"}
  %near = f32[4,8]{1,0:T(8,128)S(1)} fusion(%weights), kind=kLoop, calls=%fused_computation
  %far = f32[4,8]{1,0:T(8,128)} fusion(%near, %weights), kind=kOutput, calls=%fused_computation
  %copy-start.1 = (f32[4,8]{1,0:T(8,128)S(1)}, f32[4,8]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%far)
  %copy-done.1 = f32[4,8]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %slice-start.1 = ((bf16[16,8]{1,0:T(8,128)(2,1)}), bf16[4,8]{1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%rows)
  %slice-done.1 = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start.1)
  %moments = (f32[16]{0:T(128)S(1)}, /*index=1*/f32[16]{0:T(128)S(1)}) all-reduce(%near, %near), to_apply=%add.27
  %gather-start = (f32[4,8]{1,0}, f32[8,8]{1,0}) all-gather-start(%far), dimensions={0}
  %gather-done = f32[8,8]{1,0} all-gather-done(%gather-start)
  %while.1 = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) while(%start), condition=%condition.1, body=%body.1
  ROOT %done = (f32[4,8]{1,0:T(8,128)}) tuple(%far)
}
"""
