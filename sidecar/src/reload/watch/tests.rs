use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Targets, Watch};

fn watch(directory: &Path) -> Watch {
    Watch::new(Targets { directories: vec![directory.to_owned()], files: Vec::new() }).unwrap()
}

/// Whether a change is told within a second and a half.
async fn told(watch: &mut Watch) -> bool {
    let told = tokio::time::timeout(Duration::from_millis(1500), watch.changed()).await.is_ok();
    watch.refresh().unwrap();
    told
}

async fn silent(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_err()
}

#[tokio::test]
async fn files_are_written_replaced_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let mut watch = watch(directory.path());
    assert!(silent(&mut watch).await);
    fs::write(&file, "a").unwrap();
    assert!(told(&mut watch).await, "written");
    fs::write(directory.path().join("a.yaml.swp"), "b").unwrap();
    fs::write(directory.path().join("state.db"), "b").unwrap();
    assert!(silent(&mut watch).await, "files that are no manifests");
    fs::write(directory.path().join(".tmp"), "b").unwrap();
    fs::rename(directory.path().join(".tmp"), &file).unwrap();
    assert!(told(&mut watch).await, "renamed over it");
    fs::remove_file(&file).unwrap();
    assert!(told(&mut watch).await, "deleted");
    assert!(silent(&mut watch).await);
}

#[tokio::test]
async fn a_burst_is_one_change_and_a_file_being_written_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut watch = watch(directory.path());
    for index in 0..50 {
        fs::write(directory.path().join(format!("{index}.yaml")), "a").unwrap();
    }
    assert!(told(&mut watch).await && silent(&mut watch).await);
    let mut file = fs::File::create(directory.path().join("slow.yaml")).unwrap();
    file.write_all(b"half").unwrap();
    let started = Instant::now();
    let writer = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(300));
        file.write_all(b" whole").unwrap();
    });
    assert!(told(&mut watch).await);
    assert!(started.elapsed() >= Duration::from_millis(300), "told in the middle of it");
    writer.await.unwrap();
}

#[tokio::test]
async fn a_config_map_is_swapped_by_its_link() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("..1")).unwrap();
    fs::write(at("..1").join("a.yaml"), "old").unwrap();
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut watch = watch(directory.path());
    for version in ["..2", "..3"] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("a.yaml"), "new").unwrap();
        symlink(version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(told(&mut watch).await, "{version}");
    }
}

#[tokio::test]
async fn a_link_to_elsewhere_and_a_directory_that_comes_later_are_followed() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = elsewhere.path().join("real.yaml");
    fs::write(&target, "old").unwrap();
    symlink(&target, directory.path().join("a.yaml")).unwrap();
    let mut linked = watch(directory.path());
    fs::write(elsewhere.path().join("other.yaml"), "x").unwrap();
    assert!(silent(&mut linked).await, "not ours");
    fs::write(&target, "new").unwrap();
    assert!(told(&mut linked).await);

    let late = directory.path().join("x/late");
    let mut later = watch(&late);
    fs::create_dir_all(&late).unwrap();
    assert!(told(&mut later).await, "made");
    fs::write(late.join("a.yaml"), "a").unwrap();
    assert!(told(&mut later).await, "written into");
    fs::remove_dir_all(&late).unwrap();
    assert!(told(&mut later).await, "removed");
    fs::create_dir_all(&late).unwrap();
    assert!(told(&mut later).await, "made again");
}

#[tokio::test]
async fn a_single_file_is_watched_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let mut watch = Watch::new(Targets { directories: Vec::new(), files: vec![file.clone()] }).unwrap();
    fs::write(directory.path().join("other.yaml"), "x").unwrap();
    assert!(silent(&mut watch).await);
    fs::write(&file, "x").unwrap();
    assert!(told(&mut watch).await);
}

#[tokio::test]
async fn every_link_on_the_way_may_be_turned() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for version in ["v1", "v2"] {
        fs::create_dir_all(at(version).join("inner")).unwrap();
        fs::write(at(version).join("inner/a.yaml"), version).unwrap();
    }
    let turn = |link: &str, to: &str| {
        symlink(to, at("new")).unwrap();
        fs::rename(at("new"), at(link)).unwrap();
    };
    // A directory below a link, and a file by way of two.
    turn("current", "v1");
    turn("again", "current");
    let mut below = watch(&at("current/inner"));
    fs::create_dir(at("files")).unwrap();
    symlink("../again/inner/a.yaml", at("files").join("a.yaml")).unwrap();
    let mut by_file = watch(&at("files"));
    turn("current", "v2");
    assert!(told(&mut below).await && told(&mut by_file).await, "the first link");
    turn("again", "v1");
    assert!(told(&mut by_file).await, "the second link");
    fs::write(at("v1/inner/a.yaml"), "other").unwrap();
    assert!(told(&mut by_file).await, "the file it leads to now");
    assert!(silent(&mut below).await);
}

#[tokio::test]
async fn a_directory_may_go_and_come_again() {
    let root = tempfile::tempdir().unwrap();
    let (directory, other) = (root.path().join("resources"), root.path().join("other"));
    fs::create_dir(&directory).unwrap();
    let mut watch = watch(&directory);
    fs::remove_dir(&directory).unwrap();
    assert!(told(&mut watch).await, "gone");
    fs::create_dir(&directory).unwrap();
    assert!(told(&mut watch).await, "made again");
    fs::write(directory.join("a.yaml"), "a").unwrap();
    assert!(told(&mut watch).await, "a file in it");
    fs::rename(&directory, &other).unwrap();
    assert!(told(&mut watch).await, "moved away");
    fs::rename(&other, &directory).unwrap();
    assert!(told(&mut watch).await, "moved back");
}
