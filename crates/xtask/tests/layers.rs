//! The layers of the workspace hold, and a breach of each kind is found.

#[cfg(test)]
mod planted {
    use std::fs;
    use std::path::Path;
    use std::sync::LazyLock;

    use bruri_xtask::layers::breaches;
    use bruri_xtask::metadata::{Dependency, Edge, EdgeKind, Kind, Metadata, Node, Package};
    use bruri_xtask::workspace;
    use tempfile::TempDir;

    #[test]
    fn the_workspace_keeps_its_layers() {
        let found = breaches(&workspace_metadata());
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let found = breaches_with("bruri-domain", "bruri-store", None);
        assert_eq!(found, ["bruri-domain must not use bruri-store"]);
    }

    #[test]
    fn an_arrow_between_neighbours_is_found() {
        for (from, to) in [
            ("bruri-ops", "bruri-replication"),
            ("bruri-edge", "bruri-ops"),
            ("bruri-edge", "bruri-wire"),
            ("bruri-cli", "bruri-domain"),
            ("bruri-store", "bruri-tests"),
        ] {
            let found = breaches_with(from, to, None);
            assert_eq!(found, [format!("{from} must not use {to}")]);
        }
    }

    #[test]
    fn tests_and_build_scripts_keep_the_layers_too() {
        for kind in [Kind::Dev, Kind::Build] {
            let found = breaches_with("bruri-store", "bruri-edge", Some(kind));
            assert_eq!(found, ["bruri-store must not use bruri-edge"]);
        }
    }

    #[test]
    fn what_only_tests_may_use_is_found_outside_them() {
        let found = breaches_with("bruri-wire", "bruri-xtask", None);
        assert_eq!(found, ["bruri-wire must not use bruri-xtask"]);
    }

    #[test]
    fn a_crate_that_no_layer_names_is_found() {
        let mut metadata = workspace_metadata();
        metadata.workspace_members.push("new".into());
        metadata.packages.push(Package {
            id: "new".into(),
            name: "bruri-new".into(),
            dependencies: Vec::new(),
        });
        assert_eq!(breaches(&metadata), ["bruri-new has no layer in xtask's rules.rs"]);
    }

    #[test]
    fn a_second_door_to_a_technology_is_found() {
        for (from, to) in [
            ("bruri-edge", "sqlx"),
            ("bruri-domain", "sqlx"),
            ("bruri-replication", "prost"),
            ("bruri-ops", "prost-types"),
            ("bruri-store", "tonic"),
            ("bruri-ops", "hyper"),
            ("bruri-replication", "hyper"),
            ("bruri-store", "hyper-util"),
            ("bruri-store", "anyhow"),
            ("bruri-edge", "clap"),
        ] {
            let found = breaches_with(from, to, None);
            let named = found.iter().any(|b| b.starts_with(&format!("{from} must not use {to}: ")));
            assert!(named, "{from} uses {to}: {found:?}");
        }
    }

    #[test]
    fn a_door_for_tests_is_no_door_for_the_crate() {
        assert!(breaches_with("bruri-ops", "sqlx", Some(Kind::Dev)).is_empty());
        assert!(!breaches_with("bruri-ops", "sqlx", None).is_empty());
        assert!(!breaches_with("bruri-cli", "sqlx", Some(Kind::Dev)).is_empty());
    }

    #[test]
    fn what_the_domain_is_compiled_with_at_second_hand_is_found() {
        let mut metadata = workspace_metadata();
        plant_in_graph(&mut metadata, "sha2", "tokio", None);
        let found = breaches(&metadata);
        assert!(
            found.contains(&"bruri-domain must not be compiled with tokio".into()),
            "{found:?}"
        );
    }

    #[test]
    fn what_only_the_domains_tests_use_is_free() {
        let mut metadata = workspace_metadata();
        plant_in_graph(&mut metadata, "bruri-domain", "tokio", Some(Kind::Dev));
        assert_eq!(breaches(&metadata), [""; 0]);
    }

    #[test]
    fn a_banned_crate_anywhere_in_the_graph_is_found() {
        let mut metadata = workspace_metadata();
        metadata.packages.push(Package {
            id: "planted".into(),
            name: "openssl-sys".into(),
            dependencies: Vec::new(),
        });
        let node = Node { id: "planted".into(), deps: Vec::new() };
        metadata.resolve.as_mut().unwrap().nodes.push(node);
        assert_eq!(breaches(&metadata), ["openssl-sys is banned: see deny.toml"]);
    }

    #[test]
    fn a_forbidden_line_in_a_manifest_is_found() {
        let copy = copy_of_manifests(&workspace::root());
        let before = breaches(&Metadata::read_manifests(copy.path()).unwrap());
        assert_eq!(before, [""; 0]);

        let manifest = copy.path().join("crates/domain/Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        let planted =
            text.replace("[dependencies]", "[dependencies]\nbruri-store.workspace = true");
        fs::write(&manifest, planted).unwrap();

        let after = breaches(&Metadata::read_manifests(copy.path()).unwrap());
        assert_eq!(after, ["bruri-domain must not use bruri-store"]);
    }

    fn workspace_metadata() -> Metadata {
        static READ_ONCE: LazyLock<Metadata> =
            LazyLock::new(|| Metadata::read(&workspace::root()).unwrap());
        READ_ONCE.clone()
    }

    fn breaches_with(from: &str, to: &str, kind: Option<Kind>) -> Vec<String> {
        let mut metadata = workspace_metadata();
        let package = metadata.packages.iter_mut().find(|package| package.name == from).unwrap();
        package.dependencies.push(Dependency { name: to.into(), kind });
        breaches(&metadata)
    }

    fn plant_in_graph(metadata: &mut Metadata, from: &str, to: &str, kind: Option<Kind>) {
        let from = used_by_domain(metadata, from);
        let to = id(metadata, to);
        let nodes = &mut metadata.resolve.as_mut().unwrap().nodes;
        let node = nodes.iter_mut().find(|node| node.id == from).unwrap();
        node.deps.push(Edge { pkg: to, dep_kinds: vec![EdgeKind { kind }] });
    }

    fn id(metadata: &Metadata, name: &str) -> String {
        metadata.packages.iter().find(|package| package.name == name).unwrap().id.clone()
    }

    /// There may be two versions of a crate: the one that the domain uses, or the domain itself.
    fn used_by_domain(metadata: &Metadata, name: &str) -> String {
        let domain = id(metadata, "bruri-domain");
        if name == "bruri-domain" {
            return domain;
        }
        let nodes = &metadata.resolve.as_ref().unwrap().nodes;
        let node = nodes.iter().find(|node| node.id == domain).unwrap();
        let named = |id: &str| metadata.packages.iter().any(|p| p.id == id && p.name == name);
        node.deps.iter().find(|edge| named(&edge.pkg)).unwrap().pkg.clone()
    }

    fn copy_of_manifests(root: &Path) -> TempDir {
        let copy = TempDir::new().unwrap();
        fs::copy(root.join("Cargo.toml"), copy.path().join("Cargo.toml")).unwrap();
        let crates = fs::read_dir(root.join("crates")).unwrap();
        let names = crates.map(|entry| format!("crates/{}", entry.unwrap().file_name().display()));
        for name in names.chain(["tests".to_owned()]) {
            let to = copy.path().join(&name);
            fs::create_dir_all(to.join("src")).unwrap();
            fs::copy(root.join(&name).join("Cargo.toml"), to.join("Cargo.toml")).unwrap();
            // A package needs some target.
            fs::write(to.join("src/lib.rs"), "").unwrap();
            fs::write(to.join("src/main.rs"), "").unwrap();
        }
        copy
    }
}
