"""The configs of the video VAE that presets have."""

from __future__ import annotations

from mirrorme_model.vae_config import DecoderConfig, EncoderConfig, VaeConfig


def ltx_vae_config() -> VaeConfig:
    """LTX-Video 0.9.5 to 0.9.8."""
    return VaeConfig(
        encoder=EncoderConfig(
            widths=(128, 256, 512, 1024, 2048),
            num_blocks=(4, 6, 6, 2, 2),
            temporal_kernels=(3, 3, 3, 3, 3),
            downsamplings=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        ),
        decoder=DecoderConfig(
            widths=(1024, 512, 256, 128),
            num_blocks=(5, 5, 5, 5),
            temporal_kernels=(3, 3, 3, 3),
            causal=False,
            upsample_residual=True,
            timestep=0.05,
            noise_scale=0.025,
            window_context_latents=4,
            window_lookahead_latents=1,
        ),
    )


def demo_vae_config() -> VaeConfig:
    """Light enough for two CPU cores: a linear path, and a decoder of what it leaves out."""
    return VaeConfig(
        encoder=None,
        decoder=DecoderConfig(
            widths=(256, 128, 64, 24),
            num_blocks=(2, 2, 1, 1),
            temporal_kernels=(1, 1, 1, 1),
            input_temporal_kernel=3,
            norm="none",
            linear_input=True,
        ),
        patch_basis=True,
    )


def tiny_vae_config() -> VaeConfig:
    """For tests: few channels, and context both before the decoder's first stage and in it."""
    return VaeConfig(
        encoder=EncoderConfig(
            widths=(8, 16, 16, 16, 32),
            num_blocks=(1, 1, 1, 1, 1),
            temporal_kernels=(1, 1, 2, 2, 1),
            downsamplings=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
            input_temporal_kernel=1,
        ),
        decoder=DecoderConfig(
            widths=(32, 16, 8, 8),
            num_blocks=(1, 1, 1, 1),
            temporal_kernels=(2, 1, 1, 1),
            input_temporal_kernel=2,
        ),
    )
