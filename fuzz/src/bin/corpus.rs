//! Writes the seed corpus: `corpus FOLDER`.
fn main() {
    let folder = std::env::args().nth(1).expect("usage: corpus FOLDER");
    for (target, name, bytes) in blindsum_fuzz::seeds::all() {
        let folder = std::path::Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(folder.join(&name), &bytes).expect("the file can be written");
        println!("{target}/{name}: {} bytes", bytes.len());
    }
}
