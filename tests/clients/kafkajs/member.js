// A group member with kafkajs: eager, round robin; the commands and events of group_member.py.
//
// kafkajs sends heartbeats between batches only, so a pause ends the session; it has no
// max.poll.interval.ms, no static members and no cooperative assignor.
'use strict'

const readline = require('readline')
const { Kafka, logLevel } = require('kafkajs')

let settings
let consumer
let owned = []
let generation = -1
const pauses = []

function say(event, fields) {
  const line = { at: Date.now() / 1000, member: settings.name, event, ...fields }
  process.stdout.write(JSON.stringify(line) + '\n')
}

const sleep = ms => new Promise(done => setTimeout(done, ms))

function giveUp(event) {
  if (owned.length) say(event, { partitions: owned })
  owned = []
}

async function eachBatch({ batch, heartbeat, isRunning, isStale }) {
  const partition = `${batch.topic}:${batch.partition}`
  if (!isRunning() || isStale() || !owned.includes(partition)) return
  const first = Number(batch.firstOffset())
  let next = first
  for (const message of batch.messages) {
    const value = message.value.toString()
    if (Number(message.offset) !== next || value !== String(next)) {
      const text = `${partition}: ${value} at ${message.offset}, due ${next}`
      say('error', { text, fatal: true })
    }
    next = Number(message.offset) + 1
  }
  say('records', { partition, first, last: next - 1 })
  const offsets = { [partition]: next }
  try {
    await consumer.commitOffsets([
      { topic: batch.topic, partition: batch.partition, offset: String(next) },
    ])
    say('committed', { offsets })
  } catch (error) {
    say('commit_failed', { offsets, error: String(error) })
  }
  if (pauses.length) {
    say('pausing', {})
    await sleep(pauses.shift())
    say('resumed', {})
  }
  try {
    await heartbeat()
  } catch (error) {
    // Batches that are fetched already still come; they are not this member's any more.
    giveUp(error.type === 'REBALANCE_IN_PROGRESS' ? 'revoked' : 'lost')
    throw error
  }
}

async function start() {
  const kafka = new Kafka({
    clientId: settings.name,
    brokers: [settings.bootstrap],
    logLevel: logLevel.NOTHING,
  })
  consumer = kafka.consumer({
    groupId: settings.group,
    sessionTimeout: settings.session_ms,
    rebalanceTimeout: settings.max_poll_ms,
    heartbeatInterval: settings.heartbeat_ms,
    maxWaitTimeInMs: 200,
  })
  const { GROUP_JOIN, REBALANCING, HEARTBEAT, CRASH } = consumer.events
  consumer.on(REBALANCING, () => giveUp('revoked'))
  consumer.on(GROUP_JOIN, ({ payload }) => {
    giveUp('lost')
    for (const [topic, numbers] of Object.entries(payload.memberAssignment)) {
      owned.push(...numbers.map(number => `${topic}:${number}`))
    }
    say('assigned', { partitions: owned, id: payload.memberId })
  })
  consumer.on(HEARTBEAT, ({ payload }) => {
    if (payload.groupGenerationId === generation) return
    generation = payload.groupGenerationId
    say('generation', { generation })
  })
  consumer.on(CRASH, ({ payload }) => {
    say('error', { text: String(payload.error), fatal: !payload.restart })
  })
  await consumer.connect()
  await consumer.subscribe({ topics: settings.topics, fromBeginning: true })
  await consumer.run({ autoCommit: false, eachBatch })
}

async function stop() {
  await consumer.stop()
  giveUp('revoked')
  say('stopping', {})
  await consumer.disconnect()
  say('stopped', {})
  process.exit(0)
}

function failed(error) {
  say('error', { text: String(error && error.stack), fatal: true })
  process.exit(1)
}

readline
  .createInterface({ input: process.stdin })
  .on('line', line => {
    const command = JSON.parse(line)
    if (command.do === 'start') {
      settings = command
      start().catch(failed)
    } else if (command.do === 'pause') {
      pauses.push(command.ms)
    } else {
      stop().catch(failed)
    }
  })
  .on('close', () => process.exit(0))
