//! The files of a certificate, looked at again while it is in use.

use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::certificates::{chain_of, fitting, key_of, names_of};
use super::files::{LARGEST, read_up_to};
use super::{Certificate, Config, Contents};

/// What became of the files of a certificate.
#[derive(Debug)]
pub(crate) enum Look {
    Same,
    /// Another certificate, and what was read.
    Renewed(Certificate, [(PathBuf, Arc<[u8]>); 2]),
    /// What is wrong with them, and a digest of what was read: the same is not worth another word.
    Refused {
        why: String,
        seen: u64,
    },
}

impl Certificate {
    /// Reads its files. `known` is what was in them when it was read.
    pub(crate) fn look(&self, known: &Contents) -> Look {
        let read = self.files.each_ref().map(|path| {
            let shown = path.display();
            read_up_to(path, LARGEST).map_err(|error| format!("cannot read `{shown}`: {error}"))
        });
        let same = read.iter().zip(&self.files).all(|(read, path)| {
            let read = read.as_deref().ok();
            read.is_some() && read == known.of(path).map(|known| &**known)
        });
        if same {
            return Look::Same;
        }
        let mut seen = Xxh3::new();
        for part in &read {
            seen.update(part.as_deref().unwrap_or_default());
            seen.update(&[u8::from(part.is_ok())]);
        }
        match self.renewed(&read) {
            Ok(renewed) => renewed,
            Err(why) => {
                let seen = seen.digest();
                Look::Refused { why, seen }
            }
        }
    }

    fn renewed(&self, read: &[Result<Vec<u8>, String>; 2]) -> Result<Look, String> {
        let [chain, key] = read.each_ref().map(Result::as_ref);
        let (pem, key_pem) = (chain.map_err(String::clone)?, key.map_err(String::clone)?);
        let [cert, key] = self.files.each_ref().map(|path| path.display().to_string());
        let chain = chain_of(pem, &cert)?;
        let private = key_of(key_pem, &key)?;
        let renewed = Self {
            names: names_of(&chain)?,
            loaded: fitting(chain, private, &cert, &key)?,
            ..self.clone()
        };
        let [cert, key] = self.files.clone();
        Ok(Look::Renewed(
            renewed,
            [
                (cert, pem.as_slice().into()),
                (key, key_pem.as_slice().into()),
            ],
        ))
    }
}

impl Config {
    /// Every certificate that clients see: the place of its listener, its own place there, and itself.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (usize, usize, &Certificate)> {
        let listeners = self.listeners.iter().enumerate();
        listeners.flat_map(|(listener, each)| {
            let all = each.tls.iter().flat_map(|tls| &tls.certificates);
            let numbered = all.enumerate();
            numbered.map(move |(number, certificate)| (listener, number, certificate))
        })
    }

    /// Puts a certificate in the place of another.
    pub(crate) fn renew(
        &mut self,
        (listener, number): (usize, usize),
        certificate: Certificate,
        read: [(PathBuf, Arc<[u8]>); 2],
    ) {
        let listener = self.listeners.get_mut(listener);
        let tls = listener.and_then(|listener| listener.tls.as_mut());
        let place = tls.and_then(|tls| tls.certificates.get_mut(number));
        if let Some(place) = place {
            *place = certificate;
        }
        for (path, content) in read {
            self.contents.replace(&path, content);
        }
    }
}
