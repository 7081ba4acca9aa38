//! Arbitrary text never panics or hangs the reader; a fixed seed keeps the runs equal.

use std::path::Path;

use pillion_resources::{LoadOptions, expand_environment, load_configuration, validate_text};

/// xorshift64*, enough to shuffle bytes.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below
    }
}

const PIECES: [&str; 48] = [
    "apiVersion: dapr.io/v1alpha1\n",
    "apiVersion: dapr.io/v2alpha1\n",
    "kind: Component\n",
    "kind: Subscription\n",
    "kind: Resiliency\n",
    "kind: Configuration\n",
    "kind: HTTPEndpoint\n",
    "kind: MCPServer\n",
    "kind: WorkflowAccessPolicy\n",
    "metadata:\n",
    "  name: a\n",
    "spec:\n",
    "  type: state.redis\n",
    "  metadata:\n",
    "  - name: x\n",
    "    value: 1\n",
    "    secretKeyRef: {name: s}\n",
    "policies: ",
    "retries: ",
    "targets: ",
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    "? ",
    "\n",
    "\n---\n",
    "...\n",
    "\t",
    " ",
    "  ",
    "\"",
    "'",
    "|\n",
    ">\n",
    "&a ",
    "*a ",
    "<<: *a\n",
    "!!str ",
    "# c\n",
    "$X",
    "${",
    "é",
    "\u{feff}",
    "\0",
];

fn read(text: &str) {
    let known = LoadOptions { known_types: vec!["state.redis".to_owned()], ..LoadOptions::default() };
    for finding in validate_text(Path::new("f.yaml"), text, &known) {
        assert!(finding.line <= text.matches('\n').count() + 2, "{finding} in {text:?}");
        assert!(!finding.message.is_empty());
    }
    let _ = expand_environment(text, &mut |name, _| Some(name.to_owned()));
}

#[test]
fn shuffled_pieces_of_manifests_never_panic() {
    let mut random = Random(0x5EED);
    for _ in 0..6000 {
        let length = 1 + random.next(24);
        let text: String = (0..length).map(|_| PIECES[random.next(PIECES.len())]).collect();
        read(&text);
    }
}

#[test]
fn damaged_manifests_never_panic() {
    let mut random = Random(0xDA_4A6E);
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap(); // at run time: clones may share a build directory
    for entry in std::fs::read_dir(Path::new(&own).join("tests/corpus")).unwrap() {
        let corpus = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for case in corpus.split(">>> ").skip(1) {
            let mut characters: Vec<char> = case.split_once('\n').map_or("", |(_, text)| text).chars().collect();
            for _ in 0..20 {
                if characters.is_empty() {
                    break;
                }
                let at = random.next(characters.len());
                match random.next(3) {
                    0 => drop(characters.remove(at)),
                    1 => characters.insert(at, ['{', ':', '\n', '-', '"', ' ', '[', '&'][random.next(8)]),
                    _ => characters.truncate(at.max(1)),
                }
                read(&characters.iter().collect::<String>());
            }
        }
    }
}

#[test]
fn arbitrary_characters_never_panic() {
    let mut random = Random(7);
    for _ in 0..3000 {
        let length = random.next(80);
        let text: String = (0..length).filter_map(|_| char::from_u32(random.next(0x2000) as u32)).collect();
        read(&text);
    }
}

#[test]
fn damaged_configurations_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.yaml");
    let mut random = Random(99);
    for _ in 0..300 {
        let text: String = (0..random.next(20)).map(|_| PIECES[random.next(PIECES.len())]).collect();
        std::fs::write(&file, text).unwrap();
        let _ = load_configuration(std::slice::from_ref(&file), &|_| None);
    }
}
