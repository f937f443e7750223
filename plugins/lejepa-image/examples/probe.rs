//! Scratch.
use lejepa_core::{Purpose, Seed, ViewSampler};
use lejepa_image::*;
use std::io::Write;
use std::time::Instant;
fn crc(b: &[u8]) -> u32 {
    let mut c = !0u32;
    for &x in b {
        c ^= x as u32;
        for _ in 0..8 {
            c = if c & 1 == 1 { (c >> 1) ^ 0xedb88320 } else { c >> 1 }
        }
    }
    !c
}
fn main() {
    let p = {
        let mut s = 1u32;
        let px = (0..500 * 375 * 3)
            .map(|i| {
                s = s.wrapping_mul(1664525).wrapping_add(1013904223);
                ((i / 37) as u8).wrapping_add((s >> 28) as u8)
            })
            .collect();
        Picture::new(500, 375, 3, px).unwrap()
    };
    let off = ImageConfig {
        flip: 0.,
        jitter: 0.,
        grey: 0.,
        blur: 0.,
        solarize: 0.,
        globals: 2,
        locals: 0,
        global_size: 128,
        ..Default::default()
    };
    let d = Default::default();
    for (n, c) in [
        ("crop128x2", off.clone()),
        ("+jitter", ImageConfig { jitter: 1., ..off.clone() }),
        (
            "+contrast",
            ImageConfig { jitter: 1., brightness: 0., saturation: 0., hue: 0., ..off.clone() },
        ),
        ("+blur", ImageConfig { blur: 1., sigma: [3.5, 3.5], ..off.clone() }),
        ("+flip", ImageConfig { flip: 1., ..off.clone() }),
        ("default", d),
    ] {
        let s = ImageSampler::new(&c).unwrap();
        let mut best = f64::MAX;
        for r in 0..7 {
            let t = Instant::now();
            for i in 0..200 {
                let mut g = Seed(r).rng(Purpose::Views, &[i]);
                std::hint::black_box(s.views(&p, &mut g).unwrap());
            }
            best = best.min(t.elapsed().as_secs_f64() / 200.);
        }
        println!("{n:10} {:8.1} us/item", best * 1e6);
    }
    // fallback crop bounds
    let c = ImageConfig {
        global_scale: [1., 1.],
        local_scale: [1., 1.],
        global_size: 8,
        local_size: 8,
        globals: 1,
        locals: 1,
        ..Default::default()
    };
    let s = ImageSampler::new(&c).unwrap();
    let mut bad = 0;
    let mut first = None;
    for w in 1..200 {
        for h in 1..200 {
            let p = Picture::new(w, h, 1, vec![3; w * h]).unwrap();
            let mut g = Seed(0).rng(Purpose::Views, &[]);
            if let Err(e) = s.views(&p, &mut g) {
                bad += 1;
                first.get_or_insert((w, h, e.to_string()));
            }
        }
    }
    println!("fallback errors {bad} {first:?}");
    // bomb
    let dir = std::env::temp_dir().join("lji-probe");
    std::fs::create_dir_all(&dir).unwrap();
    let mut f = vec![];
    f.extend(b"\x89PNG\r\n\x1a\n");
    let mut chunk = |t: &[u8], b: &[u8]| {
        let mut x = t.to_vec();
        x.extend(b);
        let c = crc(&x);
        f.extend((b.len() as u32).to_be_bytes());
        f.extend(&x);
        f.extend(c.to_be_bytes());
    };
    let mut ih = vec![];
    ih.extend(32000u32.to_be_bytes());
    ih.extend(32000u32.to_be_bytes());
    ih.extend([16, 6, 0, 0, 0]);
    chunk(b"IHDR", &ih);
    chunk(b"IDAT", b"\x78\x9c\x03\x00\x00\x00\x00\x01");
    chunk(b"IEND", b"");
    std::fs::write(dir.join("bomb.png"), &f).unwrap();
    if std::env::args().nth(1).is_some() {
        let t = Instant::now();
        println!("bomb: {:?} {:?}", decode(&dir.join("bomb.png")).map(|p| p.width()), t.elapsed());
        println!(
            "{}",
            std::fs::read_to_string("/proc/self/status")
                .unwrap()
                .lines()
                .filter(|l| l.starts_with("VmPeak") || l.starts_with("VmHWM"))
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    // jpegs
    let im = image::RgbImage::from_fn(300, 200, |x, y| {
        image::Rgb([(x * 7) as u8, (y * x / 3) as u8, (x ^ y) as u8])
    });
    im.save(dir.join("a.jpg")).unwrap();
    let b = std::fs::read(dir.join("a.jpg")).unwrap();
    // thumbnail in APP1 then truncated
    let mut th = b"Exif\0\0".to_vec();
    th.extend(&b[..1000]);
    th.extend([0xff, 0xd9]);
    let mut j = b[..2].to_vec();
    j.extend([0xff, 0xe1]);
    j.extend(((th.len() + 2) as u16).to_be_bytes());
    j.extend(&th);
    j.extend(&b[2..b.len() / 2]);
    std::fs::write(dir.join("cut.jpg"), &j).unwrap();
    println!("cut with thumbnail: {:?}", decode(&dir.join("cut.jpg")).map(|p| p.width()));
    let mut j = b.clone();
    j.extend(vec![7u8; 100_000]);
    std::fs::write(dir.join("motion.jpg"), &j).unwrap();
    println!("whole, 100 kB appended: {:?}", decode(&dir.join("motion.jpg")).map(|p| p.width()));
    // gif
    im.save(dir.join("a.gif")).unwrap();
    let b = std::fs::read(dir.join("a.gif")).unwrap();
    for k in [0, 1, 9, b.len() / 2, b.len() * 9 / 10, b.len() - 3] {
        std::fs::write(dir.join("c.gif"), &b[..k]).unwrap();
        println!("gif cut {k}/{}: {:?}", b.len(), decode(&dir.join("c.gif")).map(|p| p.width()));
    }
    std::io::stdout().flush().unwrap();

    let mut s = 12345u64;
    let mut rnd = move || {
        s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (s >> 33) as usize
    };
    let small = image::RgbImage::from_fn(40, 24, |x, y| {
        image::Rgb([(x * 7) as u8, (y * x / 3) as u8, (x ^ y) as u8])
    });
    std::panic::set_hook(Box::new(|i| eprintln!("PANIC {i}")));
    let mut worst = std::time::Duration::ZERO;
    for ext in ["png", "jpg", "webp", "bmp", "tiff", "gif"] {
        let q = dir.join(format!("f.{ext}"));
        small.save(&q).unwrap();
        let b = std::fs::read(&q).unwrap();
        let (mut ok, mut err, mut pan) = (0, 0, 0);
        for _ in 0..4000 {
            let mut m = b.clone();
            for _ in 0..1 + rnd() % 5 {
                let at = if rnd() % 2 == 0 { rnd() % m.len().min(120) } else { rnd() % m.len() };
                m[at] = match rnd() % 3 {
                    0 => 255,
                    1 => 0,
                    _ => rnd() as u8,
                };
            }
            std::fs::write(&q, &m).unwrap();
            let t = Instant::now();
            match std::panic::catch_unwind(|| decode(&q)) {
                Ok(Ok(_)) => ok += 1,
                Ok(Err(_)) => err += 1,
                Err(_) => pan += 1,
            }
            worst = worst.max(t.elapsed());
        }
        println!("{ext}: ok {ok} err {err} panics {pan} slowest {worst:?}");
    }
    println!(
        "{}",
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("VmPeak") || l.starts_with("VmHWM"))
            .collect::<Vec<_>>()
            .join(" ")
    );
}
