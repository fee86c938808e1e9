"""CLR in the Hugging Face Trainer: a small GPT-2 learns to repeat a pattern of tokens."""

import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import corridor


def sequences(count: int, length: int = 16, vocabulary: int = 8) -> list[dict]:
    """Runs through the alphabet, each from another letter."""
    starts = torch.randint(vocabulary, (count, 1))
    tokens = (starts + torch.arange(length)) % vocabulary
    return [{"input_ids": row, "labels": row} for row in tokens]


def main(steps: int = 100) -> float:
    """Train from scratch; returns the loss on new sequences."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=8, n_positions=16, n_embd=32, n_layer=1, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        loss_type="ForCausalLM",
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    opt = corridor.CLR(model.parameters())
    opt.attach(model)  # the Trainer calls a bare step(): the loss comes from the model's output

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,
            lr_scheduler_type="constant",  # else the cap falls to 0 over the run
            max_grad_norm=0.0,  # clipping would shorten g and not the loss
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(
            model, arguments, train_dataset=sequences(512), eval_dataset=sequences(64),
            optimizers=(opt, None),
        )  # fmt: skip
        trainer.train()
        loss = trainer.evaluate()["eval_loss"]
    print(f"loss {loss:.4f}, last step {float(opt.param_groups[0]['effective_lr']):.3f}")
    return loss


if __name__ == "__main__":
    main()
