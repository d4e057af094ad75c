//! A tokenizer folder as Hugging Face writes it: text to ids, messages to prompt, and the stop token.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use crate::encoder::Scratch;
use crate::error::{Error, Result};
use crate::template::ChatTemplate;

mod engine;
mod sentencepiece;

use engine::Engine;

const CONFIG_FILE: &str = "tokenizer_config.json";
const TEMPLATE_FILE: &str = "chat_template.jinja";
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Tokenizer, chat template and stop token of one folder. Immutable, so threads may share it.
#[derive(Debug)]
pub struct ChatTokenizer {
    engine: Engine,
    template: ChatTemplate,
    folder: PathBuf,
    /// The end-of-text token named by `tokenizer_config.json`.
    pub eos_token: String,
    /// Id of [`Self::eos_token`].
    pub eos_id: u32,
    /// Id of the token that `tokenizer_config.json` names as the beginning of a text.
    pub bos_id: Option<u32>,
    /// The eos id first, then the further ones of `generation_config.json`: the ids that generation stops at.
    pub stop_ids: Vec<u32>,
    /// One more than the largest id, added tokens included.
    pub vocab_size: usize,
    /// sha256 in hex over `tokenizer.json`, the chat template and the special tokens.
    pub fingerprint: String,
    /// Where the chat template was found, relative to the folder.
    pub template_source: String,
    /// sha256 in hex of the chat template.
    pub template_sha256: String,
}

impl ChatTokenizer {
    /// Loads `tokenizer.json` (or `tokenizer.json.gz`, or a SentencePiece `tokenizer.model`), `tokenizer_config.json`, the chat template
    /// (`chat_template.jinja`, else the key `chat_template`) and, where there is one, `generation_config.json`.
    ///
    /// Fails with [`Error::Tokenizer`] when a part is missing or two parts contradict each other.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::tokenizer(folder, "no such folder; give one that holds tokenizer.json"));
        }
        let config_path = folder.join(CONFIG_FILE);
        let config = read_object(&config_path)?.ok_or_else(|| {
            Error::tokenizer(folder, format!("has no {CONFIG_FILE}; it names the eos token and the chat template"))
        })?;
        let tokenizer_json = read_tokenizer_json(folder)?;
        let split_special_tokens = config.get("split_special_tokens").and_then(Value::as_bool) == Some(true);
        let engine = Engine::new(&tokenizer_json, split_special_tokens)
            .map_err(|error| Error::tokenizer(folder, format!("tokenizer.json is not a tokenizer: {error}")))?;
        check_added_tokens(&engine, &config, &config_path)?;

        let special_tokens: Vec<(String, String)> = SPECIAL_TOKENS
            .iter()
            .filter_map(|name| Some(((*name).to_string(), token_text(config.get(*name)?)?.to_string())))
            .collect();
        let eos_token =
            special_tokens.iter().find(|(name, _)| name == "eos_token").map(|(_, token)| token.clone()).ok_or_else(
                || Error::tokenizer(&config_path, "names no eos_token; add it, for it ends every trained response"),
            )?;
        let eos_id = engine.token_id(&eos_token).ok_or_else(|| {
            Error::tokenizer(&config_path, format!("eos_token {eos_token:?} is not a token of tokenizer.json"))
        })?;
        let bos_token = special_tokens.iter().find(|(name, _)| name == "bos_token");
        let bos_id = bos_token.and_then(|(_, token)| engine.token_id(token));
        let (source, template_source) = read_template(folder, &config)?;
        let template = ChatTemplate::new(&source, special_tokens.clone())
            .map_err(|error| Error::tokenizer(&folder.join(&template_source), error.to_string()))?;
        Ok(Self {
            vocab_size: engine.vocab_size(),
            fingerprint: fingerprint(&tokenizer_json, &source, &special_tokens, split_special_tokens),
            template_sha256: hex(&Sha256::digest(source.as_bytes())),
            stop_ids: stop_ids(folder, eos_id)?,
            folder: folder.to_path_buf(),
            engine,
            template,
            eos_token,
            eos_id,
            bos_id,
            template_source,
        })
    }

    /// Renders `messages` (a JSON array of objects with `role` and `content`) with the chat template.
    pub fn render(&self, messages: &Value, add_generation_prompt: bool) -> Result<String> {
        if messages.as_array().is_none_or(Vec::is_empty) {
            return Err(Error::Template("the list of messages is empty".to_string()));
        }
        self.template.render(messages, add_generation_prompt)
    }

    /// Token ids of `text`, nothing added; the text of a special token becomes its id, as in
    /// Hugging Face's `tokenizer(text, add_special_tokens=False)`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        // The words of one text alone need little memory.
        self.encode_into(text, &mut Scratch::new(1 << 20), &mut ids)?;
        Ok(ids)
    }

    /// A memory of words for one thread that encodes many texts with [`Self::encode_into`]: at most 64 MiB.
    pub fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    /// Appends the ids of `text` to `ids`, as [`Self::encode`] gives them; faster, for `scratch` remembers words.
    pub fn encode_into(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) -> Result<()> {
        self.engine.encode_into(text, scratch, ids)
    }

    /// The special token that `text` begins with: its id and its bytes.
    pub fn special_token_at_start(&self, text: &str) -> Option<(u32, usize)> {
        self.engine.special_token_at_start(text)
    }

    /// The text of `ids`, special tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.engine.decode(ids)
    }

    /// Id of the token whose text is exactly `token`.
    ///
    /// Fails with [`Error::Tokenizer`] when there is none.
    pub fn token_id(&self, token: &str) -> Result<u32> {
        self.engine.token_id(token).ok_or_else(|| {
            Error::tokenizer(&self.folder, format!("{token:?} is not one token of this tokenizer; name one that is"))
        })
    }
}

/// The bytes of `tokenizer.json`, uncompressed.
fn read_tokenizer_json(folder: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let plain = folder.join("tokenizer.json");
    let compressed = folder.join("tokenizer.json.gz");
    let sentencepiece = folder.join("tokenizer.model");
    if plain.is_file() {
        let mut file = File::open(&plain).map_err(Error::io(&plain, "open"))?;
        file.read_to_end(&mut bytes).map_err(Error::io(&plain, "read"))?;
    } else if compressed.is_file() {
        let file = File::open(&compressed).map_err(Error::io(&compressed, "open"))?;
        GzDecoder::new(file).read_to_end(&mut bytes).map_err(Error::io(&compressed, "decompress"))?;
    } else if sentencepiece.is_file() {
        let model = std::fs::read(&sentencepiece).map_err(Error::io(&sentencepiece, "read"))?;
        return sentencepiece::to_tokenizer_json(&model).map_err(|problem| Error::tokenizer(&sentencepiece, problem));
    } else {
        let remedy =
            "has neither tokenizer.json, tokenizer.json.gz nor tokenizer.model; load it with transformers and save_pretrained()";
        return Err(Error::tokenizer(folder, remedy));
    }
    Ok(bytes)
}

/// The JSON object in `path`, or None when there is no such file.
fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| Error::tokenizer(path, format!("is not JSON: {error}")))?;
    match value {
        Value::Object(object) => Ok(Some(object)),
        _ => Err(Error::tokenizer(path, "must hold a JSON object")),
    }
}

/// A token is written as its text or as an object with the key `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str))
}

/// The default chat template and the file it came from; the file `chat_template.jinja` wins, as in Hugging Face.
fn read_template(folder: &Path, config: &Map<String, Value>) -> Result<(String, String)> {
    let path = folder.join(TEMPLATE_FILE);
    if path.is_file() {
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        return Ok((text, TEMPLATE_FILE.to_string()));
    }
    let found = match config.get("chat_template") {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(Value::Array(named)) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template"))
            .and_then(Value::as_str),
        _ => None,
    };
    found.map(|text| (text.to_string(), CONFIG_FILE.to_string())).ok_or_else(|| {
        let message = format!(
            "has no chat template; add {TEMPLATE_FILE}, or a default one under \"chat_template\" in {CONFIG_FILE}"
        );
        Error::tokenizer(folder, message)
    })
}

/// `tokenizer_config.json` repeats the added tokens; where it disagrees with `tokenizer.json`, ids could differ from
/// Hugging Face's, so such a folder is refused.
fn check_added_tokens(engine: &Engine, config: &Map<String, Value>, path: &Path) -> Result<()> {
    let Some(Value::Object(listed)) = config.get("added_tokens_decoder") else { return Ok(()) };
    for (id, token) in listed {
        let text = token_text(token).unwrap_or_default();
        let actual = engine.token_id(text);
        if actual.map(|id| id.to_string()).as_deref() != Some(id) {
            let message = format!(
                "lists added token {text:?} with id {id}, but in tokenizer.json {}; \
                 load the folder with transformers and save_pretrained() to make them agree",
                actual.map_or("it is missing".to_string(), |id| format!("its id is {id}"))
            );
            return Err(Error::tokenizer(path, message));
        }
    }
    Ok(())
}

fn stop_ids(folder: &Path, eos_id: u32) -> Result<Vec<u32>> {
    let path = folder.join("generation_config.json");
    let Some(config) = read_object(&path)? else { return Ok(vec![eos_id]) };
    let listed = match config.get("eos_token_id") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ids)) => ids.clone(),
        Some(id) => vec![id.clone()],
    };
    let mut ids = vec![eos_id];
    for value in listed {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| Error::tokenizer(&path, format!("eos_token_id {value} is not a token id")))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn fingerprint(
    tokenizer_json: &[u8],
    template: &str,
    special_tokens: &[(String, String)],
    split_special_tokens: bool,
) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(tokenizer_json);
    part(template.as_bytes());
    part(&[u8::from(split_special_tokens)]);
    for (name, token) in special_tokens {
        part(name.as_bytes());
        part(token.as_bytes());
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
