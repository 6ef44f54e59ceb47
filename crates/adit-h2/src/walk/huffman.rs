//! The Huffman code of RFC 7541 appendix B, half an octet at a time.

use super::Undecodable;

/// Bits of each symbol's code. The code is canonical, so the lengths say it all; the last one is EOS.
pub(super) const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

const SHORTEST: u32 = 5;
const LONGEST: u32 = 30;
const EOS: u16 = 256;
/// Inner nodes of the code's tree.
const NODES: usize = 256;
/// No code is shorter than five bits: the tree's first five levels hold inner nodes only, numbered level by level. After a
/// symbol at most three bits of the half octet are left, so the walk then stands on one of the first fifteen.
const TOP: usize = 31;
/// A child that is a symbol.
const LEAF: u16 = 0x200;

/// A step that ends a symbol: it, and the node behind it in four bits.
const SYMBOL: u16 = 0x8000;
/// A step that meets EOS.
const DEAD: u16 = 0x7fff;

const TREE: [[u16; 2]; NODES] = tree();
/// From each node with each half octet: `SYMBOL`, `DEAD` or the next node.
static STEPS: [u16; NODES * 16] = steps();
/// Where a string may end: behind at most seven ones, the first bits of EOS (section 5.2).
const ENDS: [u8; 8] = ends();

const fn tree() -> [[u16; 2]; NODES] {
    let mut tree = [[0; 2]; NODES];
    let mut node = 0;
    while node < TOP / 2 {
        tree[node] = [2 * node as u16 + 1, 2 * node as u16 + 2];
        node += 1;
    }
    let (mut next, mut code, mut len) = (TOP, 0u32, SHORTEST);
    while len <= LONGEST {
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol as usize] as u32 == len {
                let (mut node, mut bit) = (0, len - 1);
                while bit > 0 {
                    let side = (code >> bit & 1) as usize;
                    if tree[node][side] == 0 {
                        tree[node][side] = next as u16;
                        next += 1;
                    }
                    node = tree[node][side] as usize;
                    bit -= 1;
                }
                tree[node][(code & 1) as usize] = LEAF | symbol;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        len += 1;
    }
    tree
}

const fn steps() -> [u16; NODES * 16] {
    let mut steps = [0; NODES * 16];
    let mut at = 0;
    while at < NODES * 16 {
        let (mut node, mut found, mut bit) = (at / 16, None, 4);
        while bit > 0 {
            bit -= 1;
            let child = TREE[node][at >> bit & 1];
            if child & LEAF != 0 {
                found = Some(child & !LEAF);
                node = 0;
            } else {
                node = child as usize;
            }
        }
        steps[at] = match found {
            Some(EOS) => DEAD,
            Some(symbol) => SYMBOL | symbol << 4 | node as u16,
            None => node as u16,
        };
        at += 1;
    }
    steps
}

const fn ends() -> [u8; 8] {
    let (mut ends, mut ones) = ([0; 8], 1);
    while ones < 8 {
        ends[ones] = TREE[ends[ones - 1] as usize][1] as u8;
        ones += 1;
    }
    ends
}

/// Where the walk through a string stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Walk(u8);

impl Walk {
    /// Goes on through these octets, with a call for each symbol.
    #[inline]
    pub(super) fn go(&mut self, octets: &[u8], mut symbol: impl FnMut(u8)) -> Result<(), Undecodable> {
        let mut node = self.0;
        for &octet in octets {
            for half in [octet >> 4, octet & 0xf] {
                let step = STEPS.get(usize::from(node) << 4 | usize::from(half)).copied().unwrap_or(DEAD);
                if step & SYMBOL != 0 {
                    symbol((step >> 4) as u8);
                    node = (step & 0xf) as u8;
                } else if step == DEAD {
                    return Err(Undecodable);
                } else {
                    node = step as u8;
                }
            }
        }
        self.0 = node;
        Ok(())
    }

    /// Whether the string may end here.
    pub(super) fn may_end(self) -> bool {
        ENDS.contains(&self.0)
    }
}
