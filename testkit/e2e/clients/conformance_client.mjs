#!/usr/bin/env node
// What the official suite asks of a client, done with the TypeScript SDK: the suite gives the URL of its scenario server as the
// last argument and the scenario in MCP_CONFORMANCE_SCENARIO. With MREG_GATEWAY_URL and MREG_API_KEY set, it first registers
// that URL as an upstream of the running gateway over REST, holds the conversation with /mcp/{slug} there, and removes the
// upstream again, so that what the suite judges is the upstream side of the gateway.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const scenarioUrl = process.argv.at(-1);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO ?? '';
const version = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION ?? '2025-11-25';
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT || '{}');
const gateway = process.env.MREG_GATEWAY_URL, key = process.env.MREG_API_KEY;
const slug = `conf-${process.pid}-${Date.now().toString(36)}`;
const headers = gateway ? { authorization: `Bearer ${key}` } : {};

async function rest(method, path, body) {
  const response = await fetch(`${gateway}/api/v1${path}`, { method, headers: { ...headers, ...(body ? { 'content-type': 'application/json' } : {}) }, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${(await response.text()).slice(0, 300)}`);
}

async function converse(url) {
  const modern = version >= '2026';
  const capabilities = { sampling: {}, elicitation: { form: { applyDefaults: true } }, roots: { listChanged: true } };
  const client = new Client({ name: 'conformance-client', version: '1.0.0' }, { capabilities, versionNegotiation: { mode: modern ? { pin: version } : 'legacy' } });
  const defaults = schema => Object.fromEntries(Object.entries(schema?.properties ?? {}).filter(([, p]) => 'default' in p).map(([name, p]) => [name, p.default]));
  client.setRequestHandler('elicitation/create', async ({ params }) => ({ action: 'accept', content: 'confirmed' in (params.requestedSchema?.properties ?? {}) ? { confirmed: true } : defaults(params.requestedSchema) }));
  client.setRequestHandler('sampling/createMessage', async () => ({ role: 'assistant', model: 'm', content: { type: 'text', text: 't' } }));
  client.setRequestHandler('roots/list', async () => ({ roots: [] }));
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
  const offered = client.getServerCapabilities() ?? {};
  const { tools } = await client.listTools();
  const call = (name, args = {}) => client.callTool({ name, arguments: args });
  if (scenario === 'tools_call') await call('add_numbers', { a: 5, b: 3 });
  else if (context.toolCalls) for (const { name, arguments: args } of context.toolCalls) await call(name, args);
  else if (scenario === 'json-schema-2020-12-preservation') await call('json_schema_echo', { schema: tools.find(t => t.name !== 'json_schema_echo').inputSchema });
  else if (scenario === 'http-invalid-tool-headers') {
    // A client that refuses a definition leaves its tool out of the list; what is left must work.
    for (const tool of tools) await call(tool.name, Object.fromEntries((tool.inputSchema.required ?? []).map(name => [name, 'value'])));
  } else if (scenario === 'sep-2322-client-request-state') {
    await Promise.all([call('test_mrtr_echo_state'), call('test_mrtr_unrelated')]);
    await call('test_mrtr_no_state');
    await call('test_mrtr_unrelated');
    await call('test_mrtr_no_result_type');
  } else if (!/no-deref|request-metadata|^initialize$/.test(scenario)) {
    for (const tool of tools) await call(tool.name);
  }
  if (offered.resources) for (const { uri } of (await client.listResources()).resources) await client.readResource({ uri });
  if (offered.prompts) for (const { name } of (await client.listPrompts()).prompts) await client.getPrompt({ name });
  await client.close();
}

if (gateway) await rest('POST', '/servers', { slug, transport: 'streamable_http', replicas: [{ url: scenarioUrl }] });
try {
  await converse(gateway ? `${gateway}/mcp/${slug}` : scenarioUrl);
} finally {
  if (gateway) await rest('DELETE', `/servers/${slug}`);
}
process.exit(0);
