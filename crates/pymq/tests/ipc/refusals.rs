//! Places and addresses that are refused.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use pymq::{Bus, ErrorKind};

use crate::place::{Place, is_root};

#[tokio::test]
async fn what_others_can_get_at_is_refused() {
    let place = Place::new();
    let bus = place.bus().await;
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(place.path()), mode(&place.file())), (0o700, 0o600));
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    };
    allow(place.path(), 0o770);
    assert_eq!(place.refusal().await.kind(), ErrorKind::Config);
    allow(place.path(), 0o700);
    allow(&place.file(), 0o644);
    assert_eq!(place.refusal().await.kind(), ErrorKind::Config);
    allow(&place.file(), 0o600);
    place.bus().await;
    drop(bus);
}

#[tokio::test]
async fn a_link_is_refused_and_not_followed() {
    let (place, elsewhere) = (Place::new(), Place::new());
    elsewhere.bus().await.queue::<u8>("queue").put(&1).await.expect("put");
    symlink(elsewhere.path(), place.path()).expect("a link");
    assert_eq!(place.refusal().await.kind(), ErrorKind::Config);
    std::fs::remove_file(place.path()).expect("it is there");
    std::fs::create_dir(place.path()).expect("a directory");
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o700)).expect("it is ours");
    symlink(elsewhere.file(), place.file()).expect("a link");
    let error = place.refusal().await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_bus_of_this_version_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let bus = place.bus().await;
    bus.queue::<u8>("queue").put(&1).await.expect("put");
    // A file that is cut short ends every process that still has it mapped.
    bus.close().await.expect("closed");
    let overwrite = |at: u64, bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(place.file()).expect("it is ours");
        file.write_all_at(bytes, at).expect("written");
    };
    overwrite(8, &[99]);
    let error = place.refusal().await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    overwrite(0, b"something");
    assert_eq!(place.refusal().await.kind(), ErrorKind::Config);
    std::fs::write(place.file(), b"short").expect("written");
    assert_eq!(place.refusal().await.kind(), ErrorKind::Config);
    assert_eq!(std::fs::read(place.file()).expect("read"), b"short");
}

#[tokio::test]
async fn what_belongs_to_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let bus = place.bus().await;
    bus.queue::<u8>("queue").put(&1).await.expect("put");
    bus.close().await.expect("closed");
    let give =
        |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).expect("root may");
    for path in [place.file(), place.path().to_owned()] {
        give(&path, 65_534);
        let error = place.refusal().await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        give(&path, 0);
    }
    assert_eq!(place.bus().await.queue::<u8>("queue").get().await.expect("an item"), 1);
}

#[tokio::test]
async fn where_nothing_can_be_written_it_is_said_and_a_directory_in_place_of_the_file_too() {
    let place = Place::new();
    std::fs::create_dir(place.path()).expect("a directory");
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o700)).expect("it is ours");
    std::fs::create_dir(place.file()).expect("a directory");
    assert_eq!(place.refusal().await.kind(), ErrorKind::Connection);
    std::fs::remove_dir(place.file()).expect("it is empty");
    let mount = |words: &[&str]| Command::new("mount").args(words).arg(place.path()).status();
    let words = ["-t", "tmpfs", "-o", "ro,mode=0700", "pymq-tests"];
    if !is_root() || !mount(&words).is_ok_and(|status| status.success()) {
        return;
    }
    let error = place.refusal().await;
    let _ = Command::new("umount").arg(place.path()).status();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

#[tokio::test]
async fn addresses_that_mean_nothing_are_refused() {
    let long = format!("ipc://{}", "é".repeat(100));
    for url in ["ipc://", "ipc://name?option=1", "ipc://name#part", "ipc://\0", &long] {
        let error = Bus::connect(url).await.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
    }
}

#[tokio::test]
async fn any_name_of_a_bus_is_one_directory_below_our_own() {
    for odd in ["..", ".hidden", "a/b", "ä ö", "%41", "."] {
        let name = format!("{odd}-{}", std::process::id());
        let name = if odd == "a/b" { name } else { format!("{odd}{name}") };
        let (one, other) = {
            let url = format!("ipc://{name}");
            (Bus::connect(&url).await.expect(odd), Bus::connect(&url).await.expect(odd))
        };
        one.queue::<u8>("queue").put(&1).await.expect("put");
        assert_eq!(other.queue::<u8>("queue").get().await.expect("an item"), 1);
        one.close().await.expect("closed");
        other.close().await.expect("closed");
    }
}
