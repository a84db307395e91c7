//! `petrel dictionary train` and `evaluate`: a compression dictionary from an operator's own sample,
//! and what it is worth beside the shipped ones.

mod evaluation;
mod samples;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use petrel_proto::compression::{DICTIONARY_BYTES_MAX, OWN_VERSION_MIN, OwnDictionary, training};

use samples::Split;

/// Fewer different messages to train on make a dictionary that knows them by heart and nothing else.
const TRAINING_MESSAGES_MIN: usize = 1_000;
/// Bytes to train on for each byte of the dictionary, at least. zstd itself asks for about 100;
/// below this the held-out part would show no gain.
const TRAINING_BYTES_RATIO_MIN: usize = 10;
/// More than this for each byte of the dictionary is not looked at: it would change nothing.
const TRAINING_BYTES_RATIO_MAX: usize = 200;

#[derive(Debug, Subcommand)]
pub(crate) enum Dictionary {
    /// Makes a dictionary from a sample of messages, and tells what it is worth on a part of the
    /// sample that it was not made from.
    Train(Train),
    /// Tells what a dictionary is worth on a sample, beside the shipped ones.
    Evaluate(Evaluate),
}

#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// The sample: one message a line.
    #[arg(long, value_name = "FILE")]
    samples: PathBuf,
    /// Each line is JSON: a string that is the message, or an object with the message in this field.
    #[arg(long, value_name = "NAME")]
    json_field: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(flatten)]
    sample: Sample,
    /// Where the dictionary goes. A file that exists is not replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Its size in bytes, at the most.
    #[arg(long, default_value_t = 65_536, value_name = "BYTES")]
    size: usize,
    /// Its version: 100 for the first one, then the next number for each.
    #[arg(long, default_value_t = OWN_VERSION_MIN, value_name = "N")]
    version: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    sample: Sample,
    /// The dictionary.
    #[arg(long, value_name = "FILE")]
    dictionary: PathBuf,
    /// Only the part of the sample that `train` would not train on.
    #[arg(long)]
    held_out: bool,
}

pub(super) fn run(dictionary: &Dictionary) -> Result<()> {
    match dictionary {
        Dictionary::Train(options) => train(options),
        Dictionary::Evaluate(options) => evaluate(options),
    }
}

fn train(options: &Train) -> Result<()> {
    let out = &options.out;
    ensure!(
        !out.exists(),
        "--out {}: it exists. A dictionary in use is never changed: stored messages need it. \
         Choose another file, and the next --version",
        out.display()
    );
    let Split { mut training, choosing, held_out } = samples::split(options.sample.read()?);
    enough(&training, options.size)?;
    samples::limit(&mut training, options.size.saturating_mul(TRAINING_BYTES_RATIO_MAX));
    let (bytes, own) = best(&training, &choosing, options)?;
    std::fs::write(out, &bytes).with_context(|| format!("--out {}", out.display()))?;

    let text = evaluation::told(own, &held_out, "held out, not trained on")?;
    let path = out.display();
    say(&format!(
        "{path}: {} bytes, version {}, from {} different messages\n\n{text}\n\
         To use it: message.dictionary = \"{path}\". Keep the file for ever, and list it in\n\
         message.dictionaries_kept once another takes its place: stored messages need it.\n\
         It holds pieces of the messages that it was made of, and every client that signs in can\n\
         fetch it: train on nothing that not everybody may read.\n",
        bytes.len(),
        own.version(),
        training.len(),
    ))
}

fn evaluate(options: &Evaluate) -> Result<()> {
    let path = &options.dictionary;
    let named = || format!("--dictionary {}", path.display());
    let len = std::fs::metadata(path).with_context(named)?.len();
    ensure!(
        len <= DICTIONARY_BYTES_MAX as u64,
        "{}: {len} bytes; at most {DICTIONARY_BYTES_MAX}",
        named()
    );
    let own = OwnDictionary::new(&std::fs::read(path).with_context(named)?).with_context(named)?;
    let all = options.sample.read()?;
    let (messages, which) = if options.held_out {
        (samples::split(all).held_out, "the part that training would hold out")
    } else {
        (all, "the whole sample")
    };
    say(&evaluation::told(own, &messages, which)?)
}

impl Sample {
    fn read(&self) -> Result<Vec<Vec<u8>>> {
        let path: &Path = &self.samples;
        samples::read(path, self.json_field.as_deref())
            .with_context(|| format!("--samples {}", path.display()))
    }
}

/// Refuses a sample that would make a dictionary of nothing.
fn enough(training: &[Vec<u8>], size: usize) -> Result<()> {
    let bytes: usize = training.iter().map(Vec::len).sum();
    let (messages, wanted) = (training.len(), size.saturating_mul(TRAINING_BYTES_RATIO_MIN));
    if messages < TRAINING_MESSAGES_MIN {
        bail!(
            "too few samples: {messages} different messages to train on (three in ten are held out), \
             at least {TRAINING_MESSAGES_MIN} are needed"
        );
    }
    if bytes < wanted {
        bail!(
            "too few samples: {bytes} bytes to train on, a dictionary of {size} bytes needs at least {wanted}; \
             take more messages, or --size {}",
            (bytes / TRAINING_BYTES_RATIO_MIN / 1024 * 1024).max(training::BYTES_MIN)
        );
    }
    Ok(())
}

/// The best of the dictionaries that differ in where their literal table comes from, by a part
/// of the sample that neither was trained on nor is reported.
fn best(
    training: &[Vec<u8>],
    choosing: &[Vec<u8>],
    options: &Train,
) -> Result<(Vec<u8>, OwnDictionary)> {
    let mut best: Option<(usize, Vec<u8>, OwnDictionary)> = None;
    let mut failed = None;
    for literal_bytes in training::LITERAL_BYTES {
        let made = training::train(training, options.size, literal_bytes, options.version);
        let bytes = match made {
            Ok(bytes) => bytes,
            // A sample may have too little for one of the tables, and enough for another.
            Err(
                error @ (training::TrainingError::Samples(_) | training::TrainingError::Form(_)),
            ) => {
                failed = Some(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let own = OwnDictionary::new(&bytes).context("the dictionary that was made")?;
        let sent = choosing.iter().map(|message| own.encode(message).1.len()).sum();
        if best.as_ref().is_none_or(|(least, ..)| sent < *least) {
            best = Some((sent, bytes, own));
        }
    }
    match (best, failed) {
        (Some((_, bytes, own)), _) => Ok((bytes, own)),
        (None, Some(error)) => Err(error.into()),
        (None, None) => bail!("no dictionary was made"),
    }
}

fn say(text: &str) -> Result<()> {
    write!(std::io::stdout(), "{text}").context("cannot write to standard output")
}
