'use client';

import { useChat } from '@ai-sdk/react';

export default function Page() {
  const { messages, sendMessage } = useChat();
  return (
    <main>
      {messages.map((message) => (
        <p key={message.id}>{message.parts.map((part) => (part.type === 'text' ? part.text : ''))}</p>
      ))}
      <button onClick={() => sendMessage({ text: 'ping' }, { body: { model: 'glm-4.7' } })}>Ask</button>
    </main>
  );
}
