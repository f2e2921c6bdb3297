//! The network that features are read from, of whatever family its checkpoint is.

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use diffrep_datasets::Preprocess;
use diffrep_extract::FirstStageInfo;
use diffrep_import::{RawCheckpoint, is_dit, is_latent, load, read_arch};
use diffrep_schedule::{Schedule, ScheduleKind};

use super::ExtractArgs;
use crate::commands::encoder::{
    AnyEncoder, LatentSettings, LatentsArg, OpenBackbone, OpenDiT, OpenLatent,
};
use crate::commands::input::{
    PrecisionArg, encoder_name, preprocess_of, process_of, training_record,
};
use crate::printer::Printer;

/// A network with all that is needed to read features from it.
pub(super) struct Reader {
    pub(super) network: AnyEncoder,
    pub(super) name: String,
    pub(super) preprocess: Preprocess,
    pub(super) schedule: Schedule,
    /// What makes its latents, if it reads latents.
    pub(super) first_stage: Option<FirstStageInfo>,
}

impl ExtractArgs {
    pub(super) fn reader(&self, device: &Device, printer: Printer) -> Result<Reader> {
        if let Some(kind) = &self.backbone {
            let open =
                OpenBackbone::load(kind, &self.checkpoint, self.normalise, self.fit, device)?;
            return Ok(Reader {
                network: AnyEncoder::Backbone(open.network),
                name: open.name,
                preprocess: open.preprocess,
                schedule: Schedule::linear(1000),
                first_stage: None,
            });
        }
        if is_latent(&self.checkpoint) {
            return self.latent(device, printer);
        }
        if is_dit(&RawCheckpoint::open(&self.checkpoint)?) {
            return self.transformer(device);
        }
        let told = self.prompt.is_some()
            || self.size.is_some()
            || self.vae.is_some()
            || self.keep_latents.is_some();
        ensure!(
            !told && self.latents == LatentsArg::Mean,
            "--prompt, --size, --vae, --latents and --keep-latents are for networks on latents, which {} is not",
            self.checkpoint.display()
        );
        let arch = self.arch.as_deref().map(read_arch).transpose()?;
        let encoder = load(&self.checkpoint, arch, device)?;
        let record = training_record(&encoder.metadata)?;
        let config = encoder.network.config();
        let process = match self.schedule {
            Some(process) => process,
            None => process_of(&encoder.metadata, config)?,
        };
        Ok(Reader {
            name: encoder_name(
                &encoder.sha256,
                self.arch.as_ref().map(|_| config),
                self.precision,
            )?,
            preprocess: preprocess_of(record.as_ref(), config, self.fit)?,
            schedule: process.schedule()?,
            network: AnyEncoder::Diffusion(encoder.network.with_precision(self.precision.into())),
            first_stage: None,
        })
    }

    /// A diffusion transformer behind its VAE.
    fn transformer(&self, device: &Device) -> Result<Reader> {
        ensure!(
            self.prompt.is_none() && self.size.is_none(),
            "--prompt and --size are for Stable Diffusion: a diffusion transformer reads no text, and its checkpoint \
             is for one size"
        );
        ensure!(
            self.precision == PrecisionArg::F32,
            "diffusion transformers compute with f32 alone: leave --precision out"
        );
        let vae = self.vae.as_deref().with_context(|| {
            format!(
                "{} holds a diffusion transformer, which reads latents: give the folder of the VAE that it was trained \
                 behind as --vae (sd-vae-ft-ema or sd-vae-ft-mse for the published ones)",
                self.checkpoint.display()
            )
        })?;
        let open = OpenDiT::load(
            [&self.checkpoint, vae],
            self.arch.as_deref(),
            self.latents.into(),
            self.fit,
            device,
        )?;
        let process = self.schedule.unwrap_or(ScheduleKind::Linear.into());
        Ok(Reader {
            network: AnyEncoder::DiT(open.network),
            first_stage: Some(open.first_stage),
            name: open.name,
            preprocess: open.preprocess,
            schedule: process.schedule()?,
        })
    }

    /// Stable Diffusion with its first stage and its text.
    fn latent(&self, device: &Device, printer: Printer) -> Result<Reader> {
        ensure!(
            self.schedule.is_none(),
            "--schedule is for networks that do not say theirs; Stable Diffusion's is in the checkpoint"
        );
        ensure!(
            self.vae.is_none(),
            "--vae is for diffusion transformers; Stable Diffusion has its own"
        );
        ensure!(
            self.precision == PrecisionArg::F32,
            "Stable Diffusion is computed in f32, whatever its file holds: leave --precision out"
        );
        let open = OpenLatent::load(
            &self.checkpoint,
            &LatentSettings {
                arch: self.arch.as_deref(),
                size: self.size,
                prompt: self.prompt.as_deref().unwrap_or_default(),
                latents: self.latents.into(),
                fit: self.fit,
            },
            device,
        )?;
        if let Some(sentence) = open.cut() {
            printer.say(&sentence);
        }
        Ok(Reader {
            network: AnyEncoder::Latent(open.network),
            first_stage: Some(open.first_stage),
            name: open.name,
            preprocess: open.preprocess,
            schedule: open.schedule,
        })
    }
}
