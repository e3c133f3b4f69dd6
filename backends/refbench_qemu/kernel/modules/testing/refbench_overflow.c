// SPDX-License-Identifier: GPL-2.0-only
/* For tests alone: reads and presets the counts of a mapped page. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/mmap_lock.h>
#include <linux/module.h>
#include <linux/page_ref.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "refbench_overflow.h"

/*
 * GUP refuses a special PTE, which is what the reference pages of interest
 * have, so the tables are walked by hand. The caller holds mmap_lock.
 */
static struct page *page_behind(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;
	pte_t pte;

	if (pgd_none(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d))
		return NULL;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud) || pud_leaf(*pud))
		return NULL;
	pmd = pmd_offset(pud, addr);
	if (pmd_none(*pmd) || pmd_leaf(*pmd) || !pmd_present(*pmd))
		return NULL;
	pte = ptep_get(pte_offset_kernel(pmd, addr));
	if (!pte_present(pte) || !pfn_valid(pte_pfn(pte)))
		return NULL;
	return pte_page(pte);
}

static long counts_find(struct file *file, unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	struct page *page = NULL;

	mmap_read_lock(mm);
	if (vma_lookup(mm, addr))
		page = page_behind(mm, addr);
	mmap_read_unlock(mm);

	if (!page)
		return -EFAULT;
	file->private_data = page;
	return 0;
}

static long counts_read(struct page *page, void __user *to)
{
	struct refbench_counts counts = {
		.refcount = page_ref_count(page),
		.mapcount = atomic_read(&page->_mapcount),
	};

	return copy_to_user(to, &counts, sizeof(counts)) ? -EFAULT : 0;
}

static long counts_add(struct page *page, const void __user *from)
{
	struct refbench_counts counts;

	if (copy_from_user(&counts, from, sizeof(counts)))
		return -EFAULT;
	atomic_add(counts.refcount, &page->_refcount);
	atomic_add(counts.mapcount, &page->_mapcount);
	return 0;
}

static long refbench_overflow_ioctl(struct file *file, unsigned int cmd,
				    unsigned long arg)
{
	struct page *page = file->private_data;

	if (cmd == REFBENCH_COUNTS_FIND)
		return counts_find(file, arg);
	if (!page)
		return -ENODATA;
	if (cmd == REFBENCH_COUNTS_READ)
		return counts_read(page, (void __user *)arg);
	if (cmd == REFBENCH_COUNTS_ADD)
		return counts_add(page, (void __user *)arg);
	return -ENOTTY;
}

static int refbench_overflow_open(struct inode *inode, struct file *file)
{
	file->private_data = NULL;
	return 0;
}

static const struct file_operations refbench_overflow_fops = {
	.owner = THIS_MODULE,
	.open = refbench_overflow_open,
	.unlocked_ioctl = refbench_overflow_ioctl,
};

static struct miscdevice refbench_overflow_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "refbench_overflow",
	.fops = &refbench_overflow_fops,
	.mode = 0600,
};

module_misc_device(refbench_overflow_device);

MODULE_DESCRIPTION("Test only: presets the counts of a mapped page");
MODULE_LICENSE("GPL");
