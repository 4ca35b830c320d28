//! Proof that all sites serve the same.

use bruri_wire::proto::site::v1::{
    ProveConvergenceRequest, ProveConvergenceResponse as Proof,
    prove_convergence_response::Outcome, site_service_client::SiteServiceClient,
};

use crate::{
    connect::{SiteAddress, connect},
    failure::Failure,
    json,
    print::{self, Column, Output},
};

/// Tells of all sites; fails where one is not proved.
pub(super) async fn run(site: Option<&SiteAddress>, output: &mut Output<'_>) -> anyhow::Result<()> {
    let mut client = SiteServiceClient::new(connect(site).await?);
    let answer = client.prove_convergence(ProveConvergenceRequest {}).await;
    let mut stream = answer.map_err(Failure::from)?.into_inner();
    let mut proofs = Vec::new();
    while let Some(proof) = stream.message().await.map_err(Failure::from)? {
        proofs.push(proof);
    }
    let verdict = verdict(&proofs);
    if output.json {
        let proofs: Vec<json::Proof> = proofs.into_iter().map(Into::into).collect();
        output.json(&proofs)?;
    } else {
        output.text(&told(&proofs))?;
    }
    Ok(verdict?)
}

fn verdict(proofs: &[Proof]) -> Result<(), Failure> {
    let any = |outcome| proofs.iter().any(|proof| proof.outcome() == outcome);
    if any(Outcome::Damaged) || any(Outcome::Moving) || any(Outcome::Unspecified) {
        return Err(Failure::Refused("not proved: not all sites serve the same".to_owned()));
    }
    if any(Outcome::Unreached) {
        return Err(Failure::Unreachable("not proved: not all sites could be asked".to_owned()));
    }
    Ok(())
}

fn told(proofs: &[Proof]) -> String {
    let columns = [
        Column::Left("SITE"),
        Column::Left("OUTCOME"),
        Column::Right("FILES REPAIRED"),
        Column::Right("BODIES REPAIRED"),
        Column::Right("BODIES DAMAGED"),
        Column::Left("WHY"),
    ];
    let rows = proofs.iter().map(|proof| {
        vec![
            proof.site.clone(),
            json::outcome(proof.outcome()).to_owned(),
            print::number(proof.repaired_files),
            print::number(proof.repaired_bodies),
            print::number(proof.damaged_bodies),
            proof.text.clone(),
        ]
    });
    let mut lines = vec![print::table(&columns, rows)];
    for proof in proofs.iter().filter(|proof| proof.files > 0) {
        let (files, bodies) = (print::number(proof.files), print::number(proof.bodies));
        lines.push(format!("\n{}: {files} files, {bodies} bodies hashed\n", proof.site));
    }
    for proof in proofs {
        for file in &proof.damaged_files {
            lines.push(format!("{}: {file} is damaged\n", proof.site));
        }
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(site: &str, outcome: Outcome) -> Proof {
        Proof { site: site.to_owned(), outcome: outcome.into(), ..Proof::default() }
    }

    #[test]
    fn only_sites_that_all_serve_the_same_are_proved() {
        use Outcome::{Damaged, Moving, Proved, Unreached};
        let of = |outcomes: &[Outcome]| {
            verdict(&outcomes.iter().map(|outcome| proof("a", *outcome)).collect::<Vec<_>>())
        };
        assert!(of(&[Proved, Proved]).is_ok());
        assert!(matches!(of(&[Proved, Unreached]), Err(Failure::Unreachable(_))));
        for worse in [Damaged, Moving, Outcome::Unspecified] {
            assert!(matches!(of(&[Proved, Unreached, worse]), Err(Failure::Refused(_))));
        }
    }

    #[test]
    fn a_proof_is_a_table_of_sites_and_a_list_of_damaged_files() {
        let london = Proof {
            files: 1204,
            bodies: 5300,
            repaired_files: 1,
            repaired_bodies: 2,
            ..proof("london", Outcome::Proved)
        };
        let tokyo = Proof {
            damaged_files: vec!["default/299_16xxdata.txt".to_owned()],
            text: "files differ".to_owned(),
            ..proof("tokyo", Outcome::Damaged)
        };
        let expected = "\
SITE    OUTCOME  FILES REPAIRED  BODIES REPAIRED  BODIES DAMAGED  WHY
london  proved                1                2               0
tokyo   damaged               0                0               0  files differ

london: 1,204 files, 5,300 bodies hashed
tokyo: default/299_16xxdata.txt is damaged
";
        assert_eq!(told(&[london, tokyo]), expected);
    }
}
