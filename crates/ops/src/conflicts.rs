//! `ConflictService`: which files have heads with different bodies; choose one of them.

use bruri_domain::limits::CONFLICT_BODIES_BYTES_MAX;
use bruri_store::ConflictKey;
use bruri_wire::proto::conflict::v1::{
    ChooseHeadRequest, ChooseHeadResponse, GetConflictRequest, GetConflictResponse,
    ListConflictsRequest, ListConflictsResponse, conflict_service_server::ConflictService,
};
use tonic::{Request, Response, Status};

use crate::{Ops, decode, encode, operator::operator, restore, status};

#[tonic::async_trait]
impl ConflictService for Ops {
    async fn list_conflicts(
        &self,
        request: Request<ListConflictsRequest>,
    ) -> Result<Response<ListConflictsResponse>, Status> {
        let ListConflictsRequest { ended, page_size, after_file, after_number } =
            request.into_inner();
        let page = decode::page(page_size)?;
        let file = after_file.map(|id| decode::file(Some(id))).transpose()?;
        let after = file.map(|file| ConflictKey { file, number: after_number });

        let conflicts = if ended {
            self.store.conflicts_ever(after.as_ref(), page.with_one_more()).await
        } else {
            self.store.conflicts(after.as_ref(), page.with_one_more()).await
        };

        let (conflicts, more) = page.cut(conflicts.map_err(|e| status(&e))?);
        let conflicts = conflicts.into_iter().map(encode::conflict).collect();
        Ok(Response::new(ListConflictsResponse { conflicts, more }))
    }

    async fn get_conflict(
        &self,
        request: Request<GetConflictRequest>,
    ) -> Result<Response<GetConflictResponse>, Status> {
        let GetConflictRequest { file, number } = request.into_inner();
        let file = decode::file(file)?;
        let number = (number > 0).then_some(number);

        let conflict = self.store.conflict(&file, number).await.map_err(|e| status(&e))?;
        let heads = self.store.conflict_heads(&conflict, CONFLICT_BODIES_BYTES_MAX).await;

        let heads = heads.map_err(|e| status(&e))?.into_iter().map(encode::head).collect();
        let conflict = Some(encode::conflict(conflict));
        Ok(Response::new(GetConflictResponse { conflict, heads }))
    }

    async fn choose_head(
        &self,
        request: Request<ChooseHeadRequest>,
    ) -> Result<Response<ChooseHeadResponse>, Status> {
        let operator = operator(&request).await?;
        let ChooseHeadRequest { file, dot } = request.into_inner();
        let file = decode::file(file)?;
        let dot = decode::dot(&dot)?;

        let chosen = restore::choose(self, &file, &dot, operator).await.map_err(|e| status(&e))?;

        let version = Some(encode::version(chosen.version));
        Ok(Response::new(ChooseHeadResponse { version }))
    }
}
