//! Whether the entropy-coded data of a sequential JPEG are as long as its blocks need.
//!
//! A hole of zeros, as bad sectors and interrupted downloads leave it, often decodes without an error: zeros are
//! codes too. What follows is then out of step, and the data end before the last block or after it (ITU-T T.81,
//! annex F.2).

/// Zeros in a row that make a check worth its time: as long as a decoder's fast path over flat areas rarely sees.
const SUSPECT: usize = 48;

/// Whether the data hold a long run of zeros.
pub(crate) fn is_suspect(bytes: &[u8]) -> bool {
    let mut run = 0;
    // Every run of that length holds one of these positions.
    let step = SUSPECT / 2;
    let candidates = (0..bytes.len()).step_by(step).filter(|&at| bytes[at] == 0);
    for at in candidates {
        let before = bytes[..at].iter().rev().take_while(|&&b| b == 0).take(SUSPECT).count();
        let after = bytes[at..].iter().take_while(|&&b| b == 0).take(SUSPECT).count();
        run = run.max(before + after);
        if run >= SUSPECT {
            return true;
        }
    }
    false
}

/// Whether all scans end with their last block; `true` too for what is not sequential Huffman coding, of which
/// nothing is known.
pub(crate) fn is_consistent(bytes: &[u8]) -> bool {
    Walk { bytes, at: 2, ..Walk::default() }.run().unwrap_or(true)
}

/// A Huffman table: for each length of a code the first code after the last one, and the symbols.
#[derive(Default, Clone)]
struct Table {
    /// Codes of each length, from 1 bit.
    counts: [u8; 16],
    symbols: Vec<u8>,
}

#[derive(Default, Clone)]
struct Component {
    id: u8,
    /// Blocks of an MCU, across and down.
    h: usize,
    v: usize,
}

#[derive(Default)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// DC tables, then AC tables.
    tables: [[Table; 4]; 2],
    frame: Vec<Component>,
    size: (usize, usize),
    restart: usize,
    /// Bits that were taken from the data and not used yet.
    bits: u32,
    count: u32,
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn word(&mut self) -> Option<usize> {
        Some(usize::from(self.byte()?) << 8 | usize::from(self.byte()?))
    }

    /// `None` where there is nothing to say.
    fn run(&mut self) -> Option<bool> {
        loop {
            while self.byte()? != 0xff {}
            let mut marker = 0xff;
            while marker == 0xff {
                marker = self.byte()?;
            }
            match marker {
                0xd9 => return Some(true),
                0x00 | 0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let end = self.at + self.word()?;
            match marker {
                0xc0 | 0xc1 => self.frame()?,
                // Progressive, lossless or arithmetic coding.
                0xc2 | 0xc3 | 0xc5..=0xc7 | 0xc9..=0xcf => return None,
                0xc4 => self.huffman(end)?,
                0xdd => self.restart = self.word()?,
                0xda => {
                    let scan = self.scan_header()?;
                    self.at = end;
                    if !self.scan(&scan) {
                        return Some(false);
                    }
                    continue;
                }
                _ => {}
            }
            self.at = end;
        }
    }

    fn frame(&mut self) -> Option<()> {
        self.byte()?;
        let (height, width) = (self.word()?, self.word()?);
        self.size = (width, height);
        self.frame.clear();
        for _ in 0..self.byte()? {
            let id = self.byte()?;
            let factors = self.byte()?;
            self.byte()?;
            let (h, v) = (usize::from(factors >> 4), usize::from(factors & 15));
            self.frame.push(Component { id, h, v });
        }
        // A height of 0 is given later, by a marker that hardly anything writes.
        (width > 0 && height > 0 && self.frame.iter().all(|c| c.h > 0 && c.v > 0)).then_some(())
    }

    fn huffman(&mut self, end: usize) -> Option<()> {
        while self.at < end {
            let which = self.byte()?;
            let mut table = Table::default();
            for count in &mut table.counts {
                *count = self.byte()?;
            }
            for _ in 0..table.counts.iter().map(|&n| usize::from(n)).sum() {
                table.symbols.push(self.byte()?);
            }
            *self.tables.get_mut(usize::from(which >> 4))?.get_mut(usize::from(which & 15))? =
                table;
        }
        Some(())
    }

    /// The components of a scan with their DC and AC tables.
    fn scan_header(&mut self) -> Option<Vec<(Component, usize, usize)>> {
        let mut scan = Vec::new();
        for _ in 0..self.byte()? {
            let id = self.byte()?;
            let tables = self.byte()?;
            let component = self.frame.iter().find(|c| c.id == id)?.clone();
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            if dc > 3 || ac > 3 {
                return None;
            }
            scan.push((component, dc, ac));
        }
        (!scan.is_empty()).then_some(scan)
    }

    fn scan(&mut self, scan: &[(Component, usize, usize)]) -> bool {
        let most = |of: fn(&Component) -> usize| self.frame.iter().map(of).max().unwrap_or(1);
        let (h, v) = (most(|c| c.h), most(|c| c.v));
        let (width, height) = self.size;
        // The blocks of a scan of one component are its own; others come in MCUs.
        let (mcus, blocks) = match scan {
            [(c, ..)] => {
                let across = (width * c.h).div_ceil(h).div_ceil(8);
                let down = (height * c.v).div_ceil(v).div_ceil(8);
                (across * down, vec![1])
            }
            _ => {
                let across = width.div_ceil(8 * h);
                let down = height.div_ceil(8 * v);
                (across * down, scan.iter().map(|(c, ..)| c.h * c.v).collect())
            }
        };
        (self.bits, self.count) = (0, 0);
        for mcu in 0..mcus {
            if self.restart > 0 && mcu > 0 && mcu % self.restart == 0 {
                (self.bits, self.count) = (0, 0);
                let marker = (self.byte(), self.byte());
                if !matches!(marker, (Some(0xff), Some(0xd0..=0xd7))) {
                    return false;
                }
            }
            for (&(_, dc, ac), &blocks) in scan.iter().zip(&blocks) {
                for _ in 0..blocks {
                    if self.block(dc, ac).is_none() {
                        return false;
                    }
                }
            }
        }
        // Nothing but a marker may follow; filler before it is allowed.
        self.bytes.get(self.at) == Some(&0xff) && self.bytes.get(self.at + 1) != Some(&0)
    }

    fn bit(&mut self) -> Option<u32> {
        if self.count == 0 {
            let byte = *self.bytes.get(self.at)?;
            if byte == 0xff {
                if self.bytes.get(self.at + 1) != Some(&0) {
                    return None;
                }
                self.at += 1;
            }
            self.at += 1;
            (self.bits, self.count) = (byte.into(), 8);
        }
        self.count -= 1;
        Some(self.bits >> self.count & 1)
    }

    fn skip(&mut self, bits: u8) -> Option<()> {
        (0..bits).try_for_each(|_| self.bit().map(drop))
    }

    /// The next symbol.
    fn symbol(&mut self, kind: usize, table: usize) -> Option<u8> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for length in 0..16 {
            code = code << 1 | self.bit()?;
            let table = &self.tables[kind][table];
            let count = u32::from(table.counts[length]);
            if code < first + count {
                return table.symbols.get((index + code - first) as usize).copied();
            }
            index += count;
            first = (first + count) << 1;
        }
        None
    }

    /// Walks over a block; `None` where its codes make no sense.
    fn block(&mut self, dc: usize, ac: usize) -> Option<()> {
        let size = self.symbol(0, dc)?;
        self.skip(size)?;
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(1, ac)?;
            let (run, size) = (usize::from(symbol >> 4), symbol & 15);
            match (run, size) {
                (15, 0) => k += 16,
                (_, 0) => return Some(()),
                _ => {
                    k += run + 1;
                    self.skip(size)?;
                }
            }
        }
        (k == 64).then_some(())
    }
}
