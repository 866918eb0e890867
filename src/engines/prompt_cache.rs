//! Prompts made before: in memory, and on disk for the next start.
//!
//! A prompt goes to disk when it is asked for a second time: what is said to everybody is there after two calls. What is
//! said to one caller (names, addresses, order numbers) is not kept at all, however often it is asked for.

use super::manifest::hex;
use crate::speech::{Lang, SpeechError, SpeechRequest, Synthesizer};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Samples handed to the listener at a time (1 s), so that it can stop in the middle.
const PIECE: usize = 8000;

/// Whole prompts by what they say and how; both levels are bounded, the least recently used go first.
pub struct PromptCache {
    folder: Option<PathBuf>,
    /// Bytes, on disk and in memory each.
    most: u64,
    memory: Mutex<Memory>,
    disk: Mutex<Disk>,
    writes: AtomicU64,
}

#[derive(Default)]
struct Memory {
    prompts: HashMap<String, Kept>,
    bytes: u64,
    clock: u64,
}

struct Kept {
    pcm: Arc<[i16]>,
    used: u64,
    on_disk: bool,
}

#[derive(Default)]
struct Disk {
    /// Size and last use of each file.
    files: HashMap<String, (u64, u64)>,
    bytes: u64,
    clock: u64,
}

impl PromptCache {
    /// A cache in `folder` (made if missing), at most `max_bytes` on disk and as much in memory.
    pub fn new(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)?.flatten() {
            let path = entry.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("pcm") => found.extend(entry.metadata().ok().map(|m| (m.modified().ok(), path, m.len()))),
                // Left by a program that was killed while writing.
                Some("part") => drop(std::fs::remove_file(&path)),
                _ => {}
            }
        }
        found.sort();
        let mut disk = Disk::default();
        for (_, path, size) in found {
            if let Some(key) = path.file_stem().and_then(|s| s.to_str()) {
                disk.clock += 1;
                disk.bytes += size;
                disk.files.insert(key.to_owned(), (size, disk.clock));
            }
        }
        let cache = PromptCache { folder: Some(folder.to_owned()), ..Self::in_memory(max_bytes) };
        *lock(&cache.disk) = disk;
        cache.trim_disk(&mut lock(&cache.disk));
        Ok(cache)
    }

    /// A cache that leaves nothing on disk.
    pub fn in_memory(max_bytes: u64) -> Self {
        PromptCache {
            folder: None,
            most: max_bytes,
            memory: Mutex::default(),
            disk: Mutex::default(),
            writes: AtomicU64::new(0),
        }
    }

    /// The key of a prompt: everything that changes its sound.
    pub fn key(voice: &str, request: &SpeechRequest) -> String {
        let lang = match request.lang {
            Lang::Zh => "zh",
            Lang::En => "en",
        };
        let settings = format!("{voice}\0{lang}\0{:.3}\0{:.3}\0{}", request.rate, request.pitch, request.text);
        hex(&Sha256::digest(settings.as_bytes()))
    }

    /// A prompt made before.
    pub fn get(&self, key: &str) -> Option<Arc<[i16]>> {
        let in_memory = {
            let mut memory = lock(&self.memory);
            memory.clock += 1;
            let now = memory.clock;
            memory.prompts.get_mut(key).map(|kept| {
                kept.used = now;
                let first_reuse = !std::mem::replace(&mut kept.on_disk, true);
                (Arc::clone(&kept.pcm), first_reuse)
            })
        };
        match in_memory {
            Some((pcm, first_reuse)) => {
                if first_reuse {
                    self.write(key, &pcm);
                }
                Some(pcm)
            }
            None => {
                let pcm: Arc<[i16]> = self.read(key)?.into();
                self.keep(key, Arc::clone(&pcm), true);
                Some(pcm)
            }
        }
    }

    /// Keeps a prompt that was just made.
    pub fn put(&self, key: &str, pcm: Vec<i16>) {
        self.keep(key, pcm.into(), false);
    }

    /// Bytes held in memory and on disk.
    pub fn size(&self) -> (u64, u64) {
        let memory = lock(&self.memory).bytes;
        (memory, lock(&self.disk).bytes)
    }

    fn keep(&self, key: &str, pcm: Arc<[i16]>, on_disk: bool) {
        let size = 2 * pcm.len() as u64;
        if size > self.most || pcm.is_empty() {
            return;
        }
        let mut memory = lock(&self.memory);
        memory.clock += 1;
        let kept = Kept { pcm, used: memory.clock, on_disk };
        if let Some(old) = memory.prompts.insert(key.to_owned(), kept) {
            memory.bytes -= 2 * old.pcm.len() as u64;
        }
        memory.bytes += size;
        while memory.bytes > self.most {
            let Some(oldest) = memory.prompts.iter().min_by_key(|(_, k)| k.used).map(|(k, _)| k.clone()) else { break };
            if let Some(gone) = memory.prompts.remove(&oldest) {
                memory.bytes -= 2 * gone.pcm.len() as u64;
            }
        }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|f| f.join(format!("{key}.pcm")))
    }

    fn read(&self, key: &str) -> Option<Vec<i16>> {
        let path = self.path(key)?;
        {
            let mut disk = lock(&self.disk);
            disk.clock += 1;
            let now = disk.clock;
            disk.files.get_mut(key)?.1 = now;
        }
        let bytes = std::fs::read(path).ok().filter(|b| b.len() % 2 == 0 && !b.is_empty())?;
        Some(bytes.as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b)).collect())
    }

    /// Writes beside and renames: a reader sees the whole prompt or none.
    fn write(&self, key: &str, pcm: &[i16]) {
        let Some(path) = self.path(key) else { return };
        let part = path.with_extension(format!("{}.part", self.writes.fetch_add(1, Ordering::Relaxed)));
        let bytes: Vec<u8> = pcm.iter().flat_map(|s| s.to_le_bytes()).collect();
        if let Err(error) = std::fs::write(&part, &bytes).and_then(|()| std::fs::rename(&part, &path)) {
            tracing::warn!(%error, path = %path.display(), "a prompt could not be cached; the call goes on without");
            let _ = std::fs::remove_file(&part);
            return;
        }
        let mut disk = lock(&self.disk);
        disk.clock += 1;
        let now = disk.clock;
        let size = bytes.len() as u64;
        if let Some((old, _)) = disk.files.insert(key.to_owned(), (size, now)) {
            disk.bytes -= old;
        }
        disk.bytes += size;
        self.trim_disk(&mut disk);
    }

    fn trim_disk(&self, disk: &mut Disk) {
        while disk.bytes > self.most {
            let Some(oldest) = disk.files.iter().min_by_key(|(_, (_, used))| *used).map(|(k, _)| k.clone()) else {
                break;
            };
            if let Some((size, _)) = disk.files.remove(&oldest) {
                disk.bytes -= size;
            }
            if let Some(path) = self.path(&oldest) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A voice that remembers what it said.
pub struct CachedVoice {
    inner: Arc<dyn Synthesizer>,
    cache: Arc<PromptCache>,
}

impl CachedVoice {
    /// Puts the cache before a voice. Several voices may share one cache: the name is part of the key.
    pub fn new(inner: Arc<dyn Synthesizer>, cache: Arc<PromptCache>) -> Self {
        CachedVoice { inner, cache }
    }
}

impl Synthesizer for CachedVoice {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn sound(&self) -> &str {
        self.inner.sound()
    }

    fn speak(&self, request: &SpeechRequest, sink: &mut dyn FnMut(Vec<i16>) -> bool) -> Result<(), SpeechError> {
        if request.personal {
            return self.inner.speak(request, sink);
        }
        let key = PromptCache::key(self.inner.sound(), request);
        if let Some(pcm) = self.cache.get(&key) {
            let _ = pcm.chunks(PIECE).all(|piece| sink(piece.to_vec()));
            return Ok(());
        }
        // The first phrase goes out at once; the whole is kept only if it was wanted to its end.
        let (mut whole, mut wanted) = (Vec::new(), true);
        self.inner.speak(request, &mut |pcm| {
            whole.extend_from_slice(&pcm);
            wanted = sink(pcm);
            wanted
        })?;
        if wanted {
            self.cache.put(&key, whole);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::scripted::ToneVoice;
    use std::sync::atomic::AtomicUsize;

    struct Counting(ToneVoice, AtomicUsize);

    impl Synthesizer for Counting {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn speak(&self, r: &SpeechRequest, sink: &mut dyn FnMut(Vec<i16>) -> bool) -> Result<(), SpeechError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.speak(r, sink)
        }
    }

    fn request(text: &str) -> SpeechRequest {
        SpeechRequest { text: text.into(), lang: Lang::Zh, rate: 1.0, pitch: 1.0, audio: None, personal: false }
    }

    fn speak(voice: &dyn Synthesizer, text: &str) -> Vec<i16> {
        let mut out = Vec::new();
        voice
            .speak(&request(text), &mut |p| {
                out.extend(p);
                true
            })
            .expect("spoken");
        out
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn a_prompt_is_made_once_and_outlives_the_program_when_it_was_used_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Arc::new(Counting(ToneVoice::default(), AtomicUsize::new(0)));
        let open = || {
            let cache = Arc::new(PromptCache::new(folder.path(), 1 << 20).expect("a cache"));
            CachedVoice::new(Arc::clone(&made) as Arc<dyn Synthesizer>, cache)
        };
        let voice = open();
        let first = speak(&voice, "您好，请稍等。");
        assert_eq!(files(folder.path()), 0, "said once: not on disk");
        assert_eq!(speak(&voice, "您好，请稍等。"), first);
        assert_eq!(files(folder.path()), 1);
        speak(&voice, "王女士");
        drop(voice);
        let voice = open();
        assert_eq!(speak(&voice, "您好，请稍等。"), first);
        assert_eq!(made.1.load(Ordering::Relaxed), 2, "one for each text, none after the restart");
    }

    #[test]
    fn what_is_said_to_one_caller_is_never_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Arc::new(PromptCache::new(folder.path(), 1 << 20).expect("a cache"));
        let voice = CachedVoice::new(Arc::new(ToneVoice::default()), Arc::clone(&cache));
        let address = SpeechRequest { personal: true, ..request("新地址是建国路八十八号。") };
        for _ in 0..3 {
            voice.speak(&address, &mut |_| true).expect("spoken");
        }
        assert_eq!((files(folder.path()), cache.size()), (0, (0, 0)));
    }

    #[test]
    fn an_interrupted_prompt_is_not_kept() {
        let cache = Arc::new(PromptCache::in_memory(1 << 20));
        let voice = CachedVoice::new(Arc::new(ToneVoice::default()), Arc::clone(&cache));
        voice.speak(&request("您好，请稍等。"), &mut |_| false).expect("spoken");
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn memory_and_disk_stay_within_bounds_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = PromptCache::new(folder.path(), 1000).expect("a cache");
        for i in 0..10 {
            cache.put(&format!("k{i}"), vec![1; 150]);
            let _ = cache.get(&format!("k{i}"));
        }
        let (memory, disk) = cache.size();
        assert!(memory <= 1000 && disk <= 1000, "{memory} {disk}");
        assert_eq!(files(folder.path()), 3);
        assert!(cache.get("k9").is_some() && cache.get("k0").is_none());
        cache.put("big", vec![1; 600]);
        assert!(cache.get("big").is_none(), "what does not fit is not kept");
        // A smaller allowance at the next start is kept to at once.
        let cache = PromptCache::new(folder.path(), 400).expect("a cache");
        assert!(cache.size().1 <= 400);
        assert_eq!(files(folder.path()), 1);
    }

    #[test]
    fn damaged_and_half_written_files_are_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("odd.pcm"), [1, 2, 3]).expect("written");
        std::fs::write(folder.path().join("x.0.part"), [1, 2]).expect("written");
        let cache = PromptCache::new(folder.path(), 1000).expect("a cache");
        assert!(cache.get("odd").is_none());
        assert!(!folder.path().join("x.0.part").exists());
    }

    #[test]
    fn everything_audible_is_in_the_key() {
        let base = request("您好");
        let key = PromptCache::key("a", &base);
        let differs = |r: SpeechRequest| assert_ne!(PromptCache::key("a", &r), key);
        differs(SpeechRequest { text: "你好".into(), ..base.clone() });
        differs(SpeechRequest { rate: 1.1, ..base.clone() });
        differs(SpeechRequest { pitch: 1.1, ..base.clone() });
        differs(SpeechRequest { lang: Lang::En, ..base.clone() });
        assert_ne!(PromptCache::key("b", &base), key);
        assert_eq!(PromptCache::key("a", &base), key);
    }
}
