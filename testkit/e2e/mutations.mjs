// What shim.mjs can do to messages on their way. The first group is useful (an older wire version, one era only); the second
// is the faults a gateway could have, one line each, by which check_oracle.mjs proves that the oracle sees them.
//
// An entry may have: request(message, {headers}) and response(message, {asked}), which return the message or null to drop it;
// requestHeaders(headers, request), responseHeaders(headers), status(code), event(lines of one SSE event), refuse(request, body).

const each = (list, edit) => { if (Array.isArray(list)) list.forEach(edit); };
const result = edit => ({ response: (m, c) => { if (m.result && typeof m.result === 'object') edit(m.result, c); return m; } });
const reply = edit => ({ response: (m, c) => ('result' in m || 'error' in m) && m.method === undefined ? edit(m, c) : m });
const params = (method, edit) => ({ request: m => { if (m.method === method && m.params) edit(m.params); return m; } });
const without = (...names) => object => { for (const name of names) delete object[name]; };
const drop = (...methods) => ({ response: m => (methods.includes(m.method) ? null : m) });
const headersWithout = name => headers => Object.fromEntries(Object.entries(headers).filter(([key]) => key !== name));
const eachTool = edit => result(r => each(r.tools, edit));
const eachPart = edit => result(r => each(r.content, edit));
const force = version => ({ request: m => { if (m.method === 'initialize') m.params.protocolVersion = version; return m; } });
const answered = edit => ({ request: m => { if (m.result && m.method === undefined) edit(m.result); for (const inner of Object.values(m.params?.inputResponses ?? {})) edit(inner); return m; } });
const isModern = (request, body) => (request.headers['mcp-protocol-version'] ?? '') >= '2026' || body.includes('io.modelcontextprotocol/protocolVersion');
const idOf = body => { try { return JSON.parse(body).id ?? null; } catch { return null; } };

export const useful = {
  'force-2024-11-05': force('2024-11-05'),
  'force-2025-03-26': force('2025-03-26'),
  'force-2025-06-18': force('2025-06-18'),
  'legacy-only': { refuse: (request, body) => (isModern(request, body) ? { status: 400, body: JSON.stringify({ jsonrpc: '2.0', id: idOf(body), error: { code: -32000, message: 'Bad Request: unsupported protocol version' } }) } : null) },
  'modern-only': { refuse: (request, body) => (isModern(request, body) ? null : request.method === 'POST' ? { status: 400, body: JSON.stringify({ jsonrpc: '2.0', id: idOf(body), error: { code: -32022, message: 'Unsupported protocol version', data: { supported: ['2026-07-28'], requested: 'legacy' } } }) } : { status: 405 }) },
};

export const faults = {
  // Results
  'replace-text': eachPart(part => { if (part.type === 'text') part.text = 'replaced'; }),
  'corrupt-binary': result(r => { each(r.content, part => { if (part.data) part.data = `A${part.data.slice(1)}B`; if (part.resource?.blob) part.resource.blob = 'AAAA'; }); each(r.contents, part => { if (part.blob) part.blob = 'AAAA'; }); }),
  'drop-second-content-part': result(r => { if (r.content?.length > 1) r.content.splice(1, 1); }),
  'drop-structured-content': result(without('structuredContent')),
  'drop-is-error': result(without('isError')),
  'drop-result-meta': result(without('_meta')),
  'drop-unknown-members': result(r => { for (const name of Object.keys(r)) if (name.startsWith('x-')) delete r[name]; }),
  'round-numbers': reply(m => JSON.parse(JSON.stringify(m))),
  'drop-resource-mime-type': result(r => each(r.contents, without('mimeType'))),
  'empty-prompt-messages': result(r => { if (r.messages) r.messages = []; }),
  'swap-prompt-role': result(r => each(r.messages, m => { m.role = m.role === 'user' ? 'assistant' : 'user'; })),
  'drop-completion-total': result(r => { if (r.completion) delete r.completion.total; }),
  // Lists
  'half-the-tools': result(r => { if (r.tools) r.tools = r.tools.slice(0, Math.ceil(r.tools.length / 2)); }),
  'drop-output-schema': eachTool(without('outputSchema')),
  'drop-annotations': eachTool(without('annotations')),
  'drop-tool-meta': eachTool(without('_meta', 'execution', 'icons', 'title')),
  'drop-schema-definitions': eachTool(tool => { delete tool.inputSchema?.$defs; delete tool.inputSchema?.$schema; }),
  'empty-templates': result(r => { if (r.resourceTemplates) r.resourceTemplates = []; }),
  'drop-next-cursor': result(without('nextCursor')),
  'drop-cache-hints': result(without('ttlMs', 'cacheScope')),
  // Handshake
  'drop-list-changed': result(r => Object.values(r.capabilities ?? {}).forEach(inner => delete inner.listChanged)),
  'drop-instructions': result(without('instructions')),
  'other-server-info': result(r => { if (r.serverInfo) r.serverInfo.name = 'other'; const info = r._meta?.['io.modelcontextprotocol/serverInfo']; if (info) info.name = 'other'; }),
  'older-version': result(r => { if (r.protocolVersion) r.protocolVersion = '2025-03-26'; if (r.supportedVersions) r.supportedVersions = ['2025-11-25']; }),
  // Errors
  'other-error-code': reply(m => { if (m.error) m.error.code = -32603; return m; }),
  'drop-error-data': reply(m => { if (m.error) delete m.error.data; return m; }),
  'error-becomes-result': reply(m => (m.error ? { jsonrpc: '2.0', id: m.id, result: { content: [{ type: 'text', text: m.error.message }], isError: true } } : m)),
  // Requests
  'drop-arguments': params('tools/call', p => { p.arguments = {}; }),
  'drop-prompt-arguments': params('prompts/get', without('arguments')),
  'drop-progress-token': { request: m => { delete m.params?._meta?.progressToken; return m; } },
  'drop-completion-context': params('completion/complete', without('context')),
  'swallow-subscribe': { ...reply((m, { asked }) => (asked?.method === 'resources/subscribe' ? { ...m, result: {} } : m)), request: m => (m.method === 'resources/subscribe' ? { ...m, method: 'ping', params: {} } : m.method === 'subscriptions/listen' ? { ...m, params: { ...m.params, notifications: { toolsListChanged: true } } } : m) },
  'replace-client-answers': answered(r => { if (r.content?.text) r.content.text = 'other'; if (r.action) r.action = 'decline'; if (r.roots) r.roots = []; }),
  // Notifications and server requests
  'drop-progress': drop('notifications/progress'),
  'drop-log-messages': drop('notifications/message'),
  'drop-changes': drop('notifications/tools/list_changed', 'notifications/prompts/list_changed', 'notifications/resources/list_changed', 'notifications/resources/updated'),
  'notifications-without-params': { response: m => { if (m.method && m.id === undefined) m.params = {}; return m; } },
  'edit-server-requests': { response: m => { if (m.method && m.id !== undefined && m.params) m.params = { ...m.params, message: 'other', systemPrompt: 'other' }; for (const one of Object.values(m.result?.inputRequests ?? {})) one.params = { ...one.params, message: 'other' }; return m; } },
  // HTTP
  'always-json-type': { responseHeaders: h => ({ ...h, 'content-type': (h['content-type'] ?? '').replace('application/json', 'text/plain') }) },
  'always-200': { status: () => 200 },
  'drop-last-event-id': { requestHeaders: headersWithout('last-event-id') },
  'drop-event-ids': { event: lines => lines.filter(line => !line.startsWith('id:')) },
};

/** A fault the oracle cannot see, because nothing comes back from a cancelled call; streams.mjs asks the upstream about it. */
export const unseen = {
  'ignore-cancellation': { request: m => (m.method === 'notifications/cancelled' ? null : m), deafToClosing: true },
};

export default { ...useful, ...faults, ...unseen };
