//! Texts that tokenizers get wrong, from a seeded generator.

/// Splitmix64: small, and the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

const SPACES: [&str; 16] = [
    " ", " ", "  ", "\n", "\r\n", "\r", "\t", "\u{A0}", "\u{3000}", "\u{85}", "\u{2028}", "\u{1680}", "\u{B}", "\u{C}",
    "\u{1F}", "\u{200B}",
];
const PIECES: [&str; 64] = [
    "'s",
    "'S",
    "'t",
    "'LL",
    "'ll",
    "'Re",
    "'ve",
    "'M",
    "'d",
    "'\u{17F}",
    "'re",
    "'l",
    "'r",
    "''s",
    "don't",
    "it's",
    "I'll",
    "'sure",
    "'tis",
    "'llama",
    "\u{17F}",
    "e\u{301}",
    "\u{301}",
    "\u{327}\u{301}",
    "\u{323}\u{307}",
    "q\u{307}\u{323}",
    "\u{212B}",
    "\u{2126}",
    "\u{1100}\u{1161}\u{11A8}",
    "\u{AC00}\u{11A8}",
    "\u{1161}",
    "\u{9C7}\u{9BE}",
    "\u{DD9}\u{DCF}\u{DCA}",
    "\u{F71}\u{F72}",
    "\u{1D15E}",
    "\u{FB1D}",
    "\u{200D}",
    "👩\u{200D}👩\u{200D}👧",
    "🇩🇪",
    "👍🏽",
    "½",
    "\u{2460}",
    "\u{663}\u{664}",
    "\u{96B}",
    "\u{1D7CE}",
    "\u{11DE0}",
    "\u{16FF4}",
    "\u{3007}",
    "\u{2167}",
    "中文字",
    "。",
    "ไทย",
    "עברית",
    "русский",
    "ǅ",
    "ß",
    "\u{130}",
    "\u{FEFF}",
    "\u{FFFD}",
    "\u{0}",
    "\u{7F}",
    "\u{1F}",
    "…",
    "—",
];
const ASCII: [&str; 40] = [
    "the",
    " the",
    " and",
    "Wait",
    ",",
    ".",
    ". ",
    " = ",
    "x",
    " x",
    "\\frac{1}{2}",
    "\\boxed{42}",
    "$$",
    "123456",
    "3.14",
    "1,000",
    " 7",
    "(a",
    " (a",
    "((a",
    "a.b",
    "...\n",
    "...\n\n",
    ";\r\n",
    "}\n  }",
    "\n    return",
    "\n  \n",
    " \n \n ",
    "==",
    "http://a.b/c?d=e",
    "snake_case",
    "CamelCase",
    "<b>",
    "</b>",
    "-",
    "--------",
    "\"quoted\"",
    "`code`",
    "**bold**",
    "'",
];
const SPECIAL: [&str; 12] = [
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<|im_en",
    "|>",
    "<",
    "<<think>>",
    "<|im_end|",
    "<|",
    "<tool_call>",
];

/// A character from all of Unicode, the lower planes more often.
fn character(random: &mut Random) -> char {
    let end = [0x80, 0x250, 0x3000, 0xFFFF, 0x2_0000, 0x11_0000][random.below(6)];
    loop {
        if let Some(character) = char::from_u32(random.below(end) as u32) {
            return character;
        }
    }
}

/// One text of up to some hundred characters; about one in fifty has a very long run.
pub(crate) fn text(random: &mut Random) -> String {
    let mut text = String::new();
    let foreign = [2, 20, 60][random.below(3)];
    for _ in 0..=random.below(40) {
        if random.below(100) < foreign {
            match random.below(3) {
                0 => text.push(character(random)),
                1 => text.push_str(random.pick(&PIECES)),
                _ => (0..random.below(5)).for_each(|_| text.push(character(random))),
            }
            continue;
        }
        match random.below(16) {
            0..=2 => (0..=random.below(6)).for_each(|_| text.push_str(random.pick(&SPACES))),
            3..=4 => text.push_str(random.pick(&SPECIAL)),
            5..=6 => (0..=random.below(8)).for_each(|_| text.push(char::from(random.below(128) as u8))),
            7 => text.push_str(&random.below(1_000_000_000).to_string()),
            8 => text.push_str(random.pick(&PIECES)),
            _ => text.push_str(random.pick(&ASCII)),
        }
    }
    if random.below(50) == 0 {
        let unit = match random.below(4) {
            0 => random.pick(&SPACES),
            1 => random.pick(&PIECES),
            2 => random.pick(&ASCII),
            _ => "a",
        };
        text.push_str(&unit.repeat(random.below(400)));
        text.push_str(random.pick(&ASCII));
    }
    text
}

/// How many texts a test compares: `usual`, or what the environment variable MEGATRON_SFT_FUZZ_STRINGS says.
pub(crate) fn num_texts(usual: usize) -> usize {
    std::env::var("MEGATRON_SFT_FUZZ_STRINGS").map_or(usual, |number| number.parse().expect("a number of strings"))
}
