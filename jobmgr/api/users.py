"""Users, API tokens, and who did what."""

from __future__ import annotations

from aiohttp import web

from jobmgr.api.body import changes_in
from jobmgr.api.idempotency import manager_of
from jobmgr.api.reply import reply
from jobmgr.domain.audit import AuditFilter
from jobmgr.errors import UserNotFound
from jobmgr.wire import spreadsheet
from jobmgr.wire.answers import CallerAnswer, TokensAnswer, UsersAnswer
from jobmgr.wire.requests import AuditQuery, TokenAsked, TokensQuery, UserAsked, UserChange
from jobmgr.wire.submission import to_utc
from jobmgr.wire.translation import audit_answer, made_token_answer, moment_or_none, token_answer, user_answer


async def me(request: web.Request) -> web.Response:
    """Who asks."""
    found = await manager_of(request).me()
    who = found.principal
    return reply(
        CallerAnswer(
            who.name,
            who.role,
            sorted(who.scopes),
            list(found.groups),
            who.token_id,
            who.job_id,
            moment_or_none(who.expires_at),
        )
    )


async def users(request: web.Request) -> web.Response:
    """All users."""
    return reply(UsersAnswer([user_answer(user) for user in await manager_of(request).users()]))


async def get(request: web.Request) -> web.Response:
    """One user."""
    name = request.match_info["name"]
    for user in await manager_of(request).users():
        if user.name == name:
            return reply(user_answer(user))
    raise UserNotFound(name)


async def put(request: web.Request, body: UserAsked) -> web.Response:
    """Make a user, or change one to this."""
    return reply(user_answer(await manager_of(request).put_user(request.match_info["name"], body)))


async def change(request: web.Request, body: UserChange) -> web.Response:
    """Change a user."""
    changes = changes_in(body)
    if "disabled" in changes:
        changes["is_disabled"] = changes.pop("disabled")
    return reply(user_answer(await manager_of(request).change_user(request.match_info["name"], **changes)))


async def remove(request: web.Request) -> web.Response:
    """Forget a user."""
    await manager_of(request).remove_user(request.match_info["name"])
    return web.Response(status=204)


async def tokens(request: web.Request, query: TokensQuery) -> web.Response:
    """API tokens."""
    found = await manager_of(request).api_tokens(query.user)
    return reply(TokensAnswer([token_answer(token) for token in found]))


async def make_token(request: web.Request, body: TokenAsked) -> web.Response:
    """Make an API token."""
    made = await manager_of(request).make_api_token(body)
    return reply(made_token_answer(made.token, made.shown), 201)


async def revoke_token(request: web.Request) -> web.Response:
    """Revoke an API token."""
    return reply(token_answer(await manager_of(request).revoke_api_token(request.match_info["token_id"])))


async def audit(request: web.Request, query: AuditQuery) -> web.Response:
    """A page of the audit."""
    since, until = to_utc(query.since, "since"), to_utc(query.until, "until")
    wanted = AuditFilter(query.actor, query.kind, query.job, since, until)
    page = await manager_of(request).audit(wanted, limit=query.limit, cursor=query.cursor)
    answer = audit_answer(page)
    if query.format == "json" and spreadsheet.MEDIA_TYPE not in request.headers.get("Accept", ""):
        return reply(answer)
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    if page.next_cursor is not None:
        headers["X-Next-Cursor"] = page.next_cursor
    text = spreadsheet.of_audit(answer.entries)
    return web.Response(text=text, content_type=spreadsheet.MEDIA_TYPE, charset="utf-8", headers=headers)
