//! Writes the seed corpus: `corpus FOLDER`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned());
    let seeds = blindsum_fuzz::seeds::all();
    for (target, name, bytes) in &seeds {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    let bytes: usize = seeds.iter().map(|(_, _, bytes)| bytes.len()).sum();
    println!("{} seeds for {} targets, {bytes} bytes", seeds.len(), blindsum_fuzz::TARGETS.len());
    Ok(())
}
