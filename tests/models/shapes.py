"""The layers of one decoder block of each family, by name, with their shapes (c, b).

No two sizes are equal, but where the architecture wants it: attention is as wide as the model in
OPT, GPT-2, GPT-NeoX, BLOOM and Falcon.
"""

Shapes = dict[str, tuple[int, int]]

GROUPED_ATTENTION: Shapes = {
    "self_attn.q_proj": (24, 20),
    "self_attn.k_proj": (12, 20),
    "self_attn.v_proj": (12, 20),
    "self_attn.o_proj": (20, 24),
}
LLAMA: Shapes = {
    **GROUPED_ATTENTION,
    "mlp.gate_proj": (28, 20),
    "mlp.up_proj": (28, 20),
    "mlp.down_proj": (20, 28),
}
PHI3: Shapes = {
    "self_attn.qkv_proj": (48, 20),
    "self_attn.o_proj": (20, 24),
    "mlp.gate_up_proj": (56, 20),
    "mlp.down_proj": (20, 28),
}
OPT: Shapes = {
    "self_attn.q_proj": (20, 20),
    "self_attn.k_proj": (20, 20),
    "self_attn.v_proj": (20, 20),
    "self_attn.out_proj": (20, 20),
    "fc1": (28, 20),
    "fc2": (20, 28),
}
GPT2: Shapes = {
    "attn.c_attn": (60, 20),
    "attn.c_proj": (20, 20),
    "mlp.c_fc": (28, 20),
    "mlp.c_proj": (20, 28),
}
NEOX: Shapes = {
    "attention.query_key_value": (60, 20),
    "attention.dense": (20, 20),
    "mlp.dense_h_to_4h": (28, 20),
    "mlp.dense_4h_to_h": (20, 28),
}
BLOOM: Shapes = {
    "self_attention.query_key_value": (60, 20),
    "self_attention.dense": (20, 20),
    "mlp.dense_h_to_4h": (80, 20),
    "mlp.dense_4h_to_h": (20, 80),
}
FALCON_7B: Shapes = {  # 5 query heads of 4, one for keys, one for values
    "self_attention.query_key_value": (28, 20),
    "self_attention.dense": (20, 20),
    "mlp.dense_h_to_4h": (32, 20),
    "mlp.dense_4h_to_h": (20, 32),
}
FALCON_40B: Shapes = {  # 6 query heads of 4, two for keys, two for values
    "self_attention.query_key_value": (40, 24),
    "self_attention.dense": (24, 24),
    "mlp.dense_h_to_4h": (32, 24),
    "mlp.dense_4h_to_h": (24, 32),
}
FALCON_RW: Shapes = {**FALCON_7B, "self_attention.query_key_value": (60, 20)}
MIXTRAL: Shapes = {
    **GROUPED_ATTENTION,
    "mlp.experts.0.gate_up_proj": (56, 20),
    "mlp.experts.0.down_proj": (20, 28),
    "mlp.experts.1.gate_up_proj": (56, 20),
    "mlp.experts.1.down_proj": (20, 28),
    "mlp.experts.2.gate_up_proj": (56, 20),
    "mlp.experts.2.down_proj": (20, 28),
}
QWEN3_MOE: Shapes = {
    **GROUPED_ATTENTION,
    "mlp.experts.0.gate_up_proj": (32, 20),
    "mlp.experts.0.down_proj": (20, 16),
    "mlp.experts.1.gate_up_proj": (32, 20),
    "mlp.experts.1.down_proj": (20, 16),
    "mlp.experts.2.gate_up_proj": (32, 20),
    "mlp.experts.2.down_proj": (20, 16),
    "mlp.experts.3.gate_up_proj": (32, 20),
    "mlp.experts.3.down_proj": (20, 16),
}
