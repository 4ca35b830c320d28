//! `ErasureService`: erase what is known of a subject, everywhere; let it in again; which sites have done so.
//!
//! The log tells the subject by its hash, as records do: what was erased is not to be read there either.

use bruri_domain::{Sha256, limits::PAGE_ROWS_MAX};
use bruri_wire::proto::erasure::v1::{
    EraseRequest, EraseResponse, LiftRequest, LiftResponse, ListErasuresRequest,
    ListErasuresResponse, erasure_service_server::ErasureService,
};
use tonic::{Request, Response, Status};

use crate::{Ops, decode, encode, operator::operator, status};

#[tonic::async_trait]
impl ErasureService for Ops {
    async fn erase(
        &self,
        request: Request<EraseRequest>,
    ) -> Result<Response<EraseResponse>, Status> {
        let operator = operator(&request).await?;
        let EraseRequest { subject, id } = request.into_inner();
        let subject = decode::subject(subject, self.store.key())?;
        let random = decode::random(&id)?.unwrap_or_else(rand::random);

        let ordered = self.store.erase(subject, random, &operator).await.map_err(|e| status(&e))?;
        tracing::info!(
            subject = short(&subject), operator, record = %ordered.dot,
            "an operator erased all that is known of a subject"
        );

        let entries =
            self.store.erasures(Some(subject), PAGE_ROWS_MAX).await.map_err(|e| status(&e))?;
        let erasure = entries.into_iter().find(|entry| entry.random == random).map(encode::erasure);
        Ok(Response::new(EraseResponse { erasure }))
    }

    async fn lift(&self, request: Request<LiftRequest>) -> Result<Response<LiftResponse>, Status> {
        let operator = operator(&request).await?;
        let subject = decode::subject(request.into_inner().subject, self.store.key())?;

        let lifted = self.store.lift(subject, rand::random(), &operator).await;
        let lifted = lifted.map_err(|e| status(&e))?;
        tracing::info!(
            subject = short(&subject), operator, record = %lifted.dot,
            "an operator lets an erased subject in again"
        );

        Ok(Response::new(LiftResponse {}))
    }

    async fn list_erasures(
        &self,
        request: Request<ListErasuresRequest>,
    ) -> Result<Response<ListErasuresResponse>, Status> {
        let ListErasuresRequest { subject, page_size } = request.into_inner();
        let subject =
            subject.map(|named| decode::subject(Some(named), self.store.key())).transpose()?;
        let page = decode::page(page_size)?;

        let erasures =
            self.store.erasures(subject, page.with_one_more()).await.map_err(|e| status(&e))?;

        let (erasures, more) = page.cut(erasures);
        let erasures = erasures.into_iter().map(encode::erasure).collect();
        Ok(Response::new(ListErasuresResponse { erasures, more }))
    }
}

/// Enough to tell subjects apart.
fn short(subject: &Sha256) -> String {
    let mut text = subject.to_string();
    text.truncate(12);
    text
}
