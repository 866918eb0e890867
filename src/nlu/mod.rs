//! Layer 2. Understanding of text: normalise, pinyin, intents, answers.
